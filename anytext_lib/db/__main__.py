"""`python -m anytext_lib.db`: train the small detector, compare it with PP-OCRv3."""

from anytext_lib.db.command import db_parser, run_db

if __name__ == "__main__":
    raise SystemExit(run_db(db_parser().parse_args()))
