from outbox.management.commands.outbox import SUBCOMMANDS, Command


def test_djangos_options_can_stand_before_or_after_the_subcommand() -> None:
    parser = Command().create_parser("manage.py", "outbox")

    after = parser.parse_args(["status", "--settings", "project.other", "-v", "0", "--traceback"])
    before = parser.parse_args(["--settings", "project.other", "-v", "3", "status"])

    assert (after.settings, after.verbosity, after.traceback) == ("project.other", 0, True)
    assert (before.settings, before.verbosity, before.traceback) == ("project.other", 3, False)
    assert before.subcommand in SUBCOMMANDS
