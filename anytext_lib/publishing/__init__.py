"""The tooling behind the course: run its notebooks, check them, publish them."""
