"""Safeguards of restarts and health checks."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

DOCKER: Final = "tests/architecture/test_docker.py"
PROBE: Final = "tests/unit/config/test_probe.py"
PROGRESS: Final = "tests/integration/outbox/test_progress.py"

SABOTAGES: Final = (
    Sabotage(
        promise="a web server that stops refuses new connections",
        file="config/deadlines.py",
        old="            listener.close()\n",
        new="",
        test="tests/unit/config/test_deadlines.py"
        "::test_a_worker_that_stops_serves_what_waits_and_refuses_the_rest",
    ),
    Sabotage(
        promise="a web server that stops serves the connections that wait",
        file="config/deadlines.py",
        old="                self.accept(listener)\n",
        new="",
        test="tests/unit/config/test_deadlines.py"
        "::test_a_worker_that_stops_serves_what_waits_and_refuses_the_rest",
    ),
    Sabotage(
        promise="a web server that stops while it starts loses no request",
        file="config/deadlines.py",
        old="        if enabled or self.alive:\n",
        new="        if self.alive:\n",
        test="tests/unit/config/test_deadlines.py"
        "::test_a_worker_that_is_stopped_while_it_starts_serves_what_waits",
    ),
    Sabotage(
        promise="a web server that is about to stop isn't ready",
        file="config/health.py",
        old="if (drain_file := environment().drain_file) and Path(drain_file).exists():",
        new="if False:",
        test="tests/integration/config/test_health.py"
        "::test_a_site_that_is_about_to_stop_is_not_ready",
    ),
    Sabotage(
        promise="nginx repeats no POST without a key",
        file="docker/nginx/http.conf",
        old='"~^POST ." 1;',
        new='"~^POST " 1;',
        test=f"{DOCKER}"
        "::test_nginx_repeats_no_post_but_an_order_with_a_key_and_gives_up_a_dead_address_soon",
    ),
    Sabotage(
        promise="a rolling update never stops the last web container",
        file="docker/rolling.sh",
        old='if [ "$other" ] && ! is_ready "$other" && is_ready "$1"; then',
        new="if false; then",
        test=f"{DOCKER}::test_a_rolling_update_stops_at_a_container_that_is_not_ready",
    ),
    Sabotage(
        promise="a rolling update can run again after a web container has failed",
        file="docker/rolling.sh",
        old='  if is_ready "$2"; then\n',
        new="  if true; then\n",
        test=f"{DOCKER}::test_a_rolling_update_begins_with_the_container_that_is_not_ready",
    ),
    Sabotage(
        promise="nginx has the time to complete the requests of a service that stops",
        file="docker/deployments.yml",
        old="    stop_grace_period: 40s ",
        new="    stop_grace_period: 10s ",
        test=f"{DOCKER}::test_nginx_may_complete_requests_for_longer_than_a_service",
    ),
    Sabotage(
        promise="a variable of docker/.env reaches the processes",
        file="docker/deployments.yml",
        old="  OUTBOX_RETENTION_SECONDS: ${OUTBOX_RETENTION_SECONDS:-}\n",
        new="",
        test=f"{DOCKER}::test_every_variable_reaches_the_processes_that_read_it",
    ),
    Sabotage(
        promise="nginx never loads a configuration that is wrong",
        file="docker/nginx/start.sh",
        old="  $nginx -q -t\n",
        new="",
        test=f"{DOCKER}::test_nginx_loads_a_changed_configuration_only_if_it_is_right",
    ),
    Sabotage(
        promise="a loop that hangs makes its process unhealthy",
        file="docker/entrypoint.py",
        old="return 1 if stalled or not ages else 0",
        new="return 1 if not ages else 0",
        test=f"{PROBE}::test_a_process_is_unhealthy_if_one_of_its_loops_makes_no_steps",
    ),
    Sabotage(
        promise="a process whose loops haven't started isn't healthy",
        file="docker/entrypoint.py",
        old="return 1 if stalled or not ages else 0",
        new="return 1 if stalled else 0",
        test=f"{PROBE}::test_a_process_is_unhealthy_if_one_of_its_loops_makes_no_steps",
    ),
    Sabotage(
        promise="a start removes no file that isn't a progress file",
        file="docker/entrypoint.py",
        old="if each.is_file() and not each.stat().st_size]",
        new="if each.is_file()]",
        test=f"{PROBE}::test_a_start_removes_only_empty_files_of_the_progress_folder",
    ),
    Sabotage(
        promise="an empty variable doesn't make the current folder that of progress files",
        file="docker/entrypoint.py",
        old='os.environ["PROGRESS_FOLDER"] = setting("PROGRESS_FOLDER", PROGRESS_FOLDER)',
        new='os.environ.setdefault("PROGRESS_FOLDER", PROGRESS_FOLDER)',
        test=f"{PROBE}::test_a_start_removes_only_empty_files_of_the_progress_folder",
    ),
    Sabotage(
        promise="the lease doesn't report the progress of a reader",
        file="outbox/consuming/membership.py",
        old='progress.report(f"lease of {self._group}")',
        new="[progress.report(reader) for reader in self._assigned]",
        test=f"{PROGRESS}::test_a_reader_whose_handler_hangs_reports_nothing_while_its_lease_does",
    ),
    Sabotage(
        promise="a reader reports its progress between the events of a batch",
        file="outbox/consuming/reader.py",
        old="            progress.report(self.name)  # no handler runs\n",
        new="",
        test=f"{PROGRESS}::test_a_reader_reports_between_the_events_of_a_batch",
    ),
    Sabotage(
        promise="a relay that waits for events reports its progress",
        file="outbox/publishing/relay.py",
        old='            progress.report(f"relay of {tables.label}")\n',
        new="",
        test=f"{PROGRESS}::test_a_relay_reports_each_round_and_a_task_beside_it_reports_nothing",
    ),
)
