"""The tasks of a recorded experiment, without worker processes."""

from anytext_lib.files import write_json


def in_this_process(plan, tasks):
    """What ``ExperimentPlan.run_all`` does, one task after the other in this process."""
    for function, *arguments in tasks:
        path = plan.path(function.__name__.strip("_"), *arguments)
        if not path.exists():
            result, summary = function(plan, *arguments)
            print(f"] {path.stem}: {summary}")
            write_json(path, result)
