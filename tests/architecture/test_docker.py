"""Checks the guarantees of the compose files without a container engine."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings

from config.environ import BadEnvironment, read
from config.headers import PERMISSIONS_POLICY
from stack.users import all_rules
from tests.attacks.test_headers import EXPECTED, FRAMES
from tests.support.composed import DOCKER, OURS, SHAPES, Service, document, services

PINNED: Final = r"\$\{[A-Z]+_IMAGE:-[\w/]+:\d+\}"  # docker/pin.sh writes the variable


def of_deployment(name: str) -> dict[str, Service]:
    found = {
        key: service
        for key, service in services("compose.services.yml").items()
        if service.get("environment", {}).get("SERVICE") == name
    }
    assert len(found) == 7, sorted(found)  # provision, migrate, two web, worker, beat, consumer
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_image_is_ours_or_pinned_to_a_major_version(shape: str) -> None:
    images = {service["image"] for service in services(shape).values()}

    assert OURS in images
    assert [image for image in images - {OURS} if not re.fullmatch(PINNED, image)] == []


def test_nginx_routes_every_public_path() -> None:
    """Checks the paths that nginx forwards at the API's port."""
    api_port = (DOCKER / "nginx" / "services.conf").read_text().split("listen 8001")[0]
    locations = re.findall(r"location ~ (\S+) \{", api_port)
    public = {
        f"/{entry.pattern}"
        for service in settings.SERVICES
        for entry in import_module(f"{service}.api.urls").urlpatterns
        if not str(entry.pattern).startswith("internal/")
    }

    assert public
    assert {path for path in public if not any(re.match(each, path) for each in locations)} == set()


def test_every_server_of_nginx_limits_requests_and_refuses_internal_routes() -> None:
    limits = (DOCKER / "nginx" / "limits.conf").read_text()
    [kibibytes] = re.findall(r"client_max_body_size (\d+)k;", limits)

    assert int(kibibytes) * 1024 == settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    for line in ("proxy_request_buffering on;", "client_header_timeout", "client_body_timeout"):
        assert line in limits
    for name, servers in (("monolith.conf", 1), ("services.conf", 3)):
        text = (DOCKER / "nginx" / name).read_text()
        for line in ("listen ", "include /nginx/limits.conf;", "include /nginx/problems.conf;"):
            assert text.count(line) == servers, (name, line)
        refused = text.count("location ~ ^/(internal|metrics)(/|$) { return 404; }")
        assert refused == text.count("location / { include")


def test_every_error_of_nginx_itself_is_a_problem_document() -> None:
    pages = (DOCKER / "nginx" / "problems.conf").read_text()
    titled = re.findall(r'(?m)^    (\d+) ".+";$', (DOCKER / "nginx" / "http.conf").read_text())
    [shown] = re.findall(r"error_page ([\d ]+) /problem;", pages)

    assert {*titled, "500"} == {*shown.split(), "431"}  # the default title is that of 500
    for body in re.findall(r"return \d+ '(.*)';", pages):
        assert json.loads(body.replace("$status", "404"))["status"] >= 400


def test_nginx_logs_an_object_with_the_fields_of_a_service_and_no_query() -> None:
    text = (DOCKER / "nginx" / "http.conf").read_text()
    [form] = re.findall(r"(?s)log_format object escape=json\s+(.*?);", text)
    form = "".join(re.findall("'(.*?)'", form))
    used = set(re.findall(r"\$(\w+)", form))
    line = json.loads(re.sub(r"\$\w+", "7", form))

    assert "access_log /dev/stdout object;" in (DOCKER / "nginx" / "limits.conf").read_text()
    assert set(line) >= {"time", "level", "service", "process", "logger", "message", "request_id"}
    assert {type(line[name]) for name in ("status", "ms")} == {int}
    # No variable has the query, a header of the client, or the path without the maps above.
    assert used == {"time_iso8601", "request_method", "remote_addr", "kept_request_id"} | {
        name for name in used if name.startswith("logged_")
    }


def test_nginx_gives_each_request_an_id_and_believes_only_a_proxy_in_front() -> None:
    proxy = (DOCKER / "nginx" / "proxy.conf").read_text()
    start = (DOCKER / "nginx" / "start.sh").read_text()
    behind, alone = re.split(r"(?m)^else$", start.partition('"${PROXIES:-1}" -gt 1')[2])

    for header, name in (("X-Request-ID", "request_id"), ("traceparent", "traceparent")):
        assert f"proxy_set_header {header} $kept_{name};" in proxy
        assert f"$http_{'x_' * (name == 'request_id')}{name}" in behind
    assert "$http_" not in alone
    assert 'map "" $kept_request_id { default $request_id; }' in alone


@pytest.mark.parametrize("shape", SHAPES)
def test_every_process_logs_objects(shape: str) -> None:
    ours = [each for each in services(shape).values() if each["image"] == OURS]
    assert {each["environment"]["LOG_FORMAT"] for each in ours} == {"${LOG_FORMAT:-json}"}


def test_every_response_of_nginx_itself_has_the_headers_of_a_service() -> None:
    headers = (DOCKER / "nginx" / "headers.conf").read_text()
    found = dict(re.findall(r'(?m)^add_header (\S+) "?(.*?)"? always;$', headers))

    assert FRAMES in found.pop("Content-Security-Policy")
    assert found.pop("X-Request-ID") == "$kept_request_id"
    assert found == {**EXPECTED, "Permissions-Policy": PERMISSIONS_POLICY}
    for file in (DOCKER / "nginx").glob("*.conf"):
        for block in re.findall(r"location [^{]*\{([^}]*)", file.read_text()):
            assert "include /nginx/headers.conf;" in block or not re.search(
                r"return \d+ '", block
            ), (file.name, block)


@pytest.mark.parametrize("shape", SHAPES)
def test_nginx_stores_bodies_and_responses_in_bounded_memory_and_never_on_the_disk(
    shape: str,
) -> None:
    front = services(shape)["front"]
    [stored] = [each for each in front["tmpfs"] if each.startswith("/var/cache/nginx:")]
    # The paths that nginx was built with differ between distributions.
    paths = re.findall(r"_temp_path (.*);", (DOCKER / "nginx" / "nginx.conf").read_text())

    assert len(paths) == 5
    assert all(path.startswith("/var/cache/nginx/") for path in paths)
    assert front["read_only"] is True
    assert re.search(r":size=\d+m$", stored)
    assert front["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("shape", SHAPES)
def test_only_postgresql_has_a_writable_root_or_more_than_the_needed_capabilities(
    shape: str,
) -> None:
    for key, service in services(shape).items():
        if not key.startswith("postgres"):
            assert service["read_only"] is True, key
            assert service["cap_drop"] == ["ALL"], key
            assert service["security_opt"] == ["no-new-privileges:true"], key
        added = {"CHOWN", "SETGID", "SETUID"} | ({"KILL"} if key == "front" else set())
        assert set(service.get("cap_add", added)) == added, key
        assert service["image"] != OURS or "cap_add" not in service, key


@pytest.mark.parametrize("shape", SHAPES)
def test_nginx_may_complete_requests_for_longer_than_a_service(shape: str) -> None:
    periods = {
        key: int(service["stop_grace_period"].removesuffix("s"))
        for key, service in services(shape).items()
        if key == "front" or service["image"] == OURS
    }

    assert periods.pop("front") > max(periods.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_container_that_stays_running_has_a_health_check(shape: str) -> None:
    for key, service in services(shape).items():
        check = service["healthcheck"]
        assert check.get("disable", False) is (service["restart"] == "no"), key
        if service["image"] == OURS and not check["disable"]:
            [program] = service["command"]
            assert check["test"][-2:] == ["probe", program]


def test_nginx_repeats_no_post_but_an_order_with_a_key_and_gives_up_a_dead_address_soon() -> None:
    texts = {file.name: file.read_text() for file in (DOCKER / "nginx").glob("*.conf")}
    statements = {
        name: re.findall(r"(?m)^ *(proxy_(?:next_upstream|connect_timeout)\b[^;]*);", text)
        for name, text in texts.items()
    }

    assert {name: found for name, found in statements.items() if found} == {
        "proxy.conf": ["proxy_connect_timeout 1s"],
        "repeatable.conf": ["proxy_next_upstream error timeout non_idempotent"],
    }
    assert re.findall(r"(?m)^location [^{]*", texts["repeatable.conf"]) == [
        "location = /api/orders/ ",
        "location @repeatable ",
    ]
    assert "if ($is_repeatable) { return 418; }" in texts["repeatable.conf"]
    assert '$is_repeatable { default 0; "~^POST ." 1; }' in texts["http.conf"]
    # No other way to a service is without these limits.
    for name, text in texts.items():
        assert text.count("proxy_pass ") == text.count("include /nginx/proxy.conf;"), name


@pytest.mark.parametrize("shape", SHAPES)
def test_two_web_containers_share_a_name_by_which_nginx_reaches_both(shape: str) -> None:
    file = {"compose.yml": "monolith.conf", "compose.services.yml": "upstreams.conf"}[shape]
    text = (DOCKER / "nginx" / file).read_text()
    web = {key for key, service in services(shape).items() if service.get("command") == ["web"]}

    names = {key.rpartition("-")[0] for key in web}
    assert {f"{name}-{number}" for name in names for number in (1, 2)} == web
    for key in web:
        name = key.rpartition("-")[0]
        service = services(shape)[key]
        assert service["networks"] == {"default": {"aliases": [name]}}
        assert {name, key} <= set(service["environment"]["ALLOWED_HOSTS"].split(","))
        # One address alone would leave no other one to try.
        assert f" http://{name}:8000;" in text
        assert f"http://{key}:" not in text


REPLACE: Final = "up -d --no-deps --force-recreate "
DRAIN: Final = " python /app/docker/entrypoint.py drain"
FAKE_COMPOSE: Final = """\
#!/bin/sh
shift 2  # -f FILE
case "$*" in
  *probe*) [ "$3" != "$UNREADY" ] || { [ "$RECOVERS" ] && grep -q "recreate $3" "$LOG"; }; exit ;;
  *) echo "$*" >>"$LOG" ;;
esac
case "$*" in
  *"${INTERRUPTED:-none}"*) kill -TERM $PPID ;;
  *"${FAILS:-none}"*) exit 1 ;;
esac
"""


@pytest.fixture
def roll(tmp_path: Path) -> Callable[..., tuple[int, list[str], str]]:
    """Runs rolling.sh with an engine that only notes the commands."""
    script = shutil.copy(DOCKER / "rolling.sh", tmp_path)
    (tmp_path / "compose").write_text(FAKE_COMPOSE)
    (tmp_path / "compose").chmod(0o755)

    def run(*arguments: str, **variables: str) -> tuple[int, list[str], str]:
        """The variables are those of the engine; the name in UNREADY isn't ready."""
        log = tmp_path / "log"
        log.write_text("")
        ours = {"COMPOSE": "./compose", "LOG": str(log), "READY_SECONDS": "0"}
        ran = subprocess.run(
            [script, *arguments],
            env={"UNREADY": "", **ours, **variables, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, log.read_text().splitlines(), ran.stderr

    return run


def test_a_rolling_update_replaces_only_the_services_that_are_named(
    roll: Callable[..., Any],
) -> None:
    status, done, _ = roll("compose.services.yml", "orders-worker", "orders-web-2")

    assert status == 0
    drain = f"exec -T orders-web-2{DRAIN}"
    assert done == [REPLACE + "orders-worker", drain, REPLACE + "orders-web-2"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rolling_update_migrates_once_and_replaces_every_process(
    roll: Callable[..., Any], shape: str
) -> None:
    status, done, _ = roll(shape)

    once = [key for key, each in services(shape).items() if each["restart"] == "no"]
    running = [key for key, each in services(shape).items() if each["image"] == OURS]
    assert status == 0
    assert done[: len(once) + 1] == ["build", *(f"run --rm -T {key}" for key in once)]
    name = {"compose.yml": "monolith", "compose.services.yml": "services"}[shape]
    assert done[len(once) + 1] == f"exec -T front sh /nginx/start.sh {name} reload"
    replaced = [line.removeprefix(REPLACE) for line in done[len(once) + 2 :] if DRAIN not in line]
    assert sorted(replaced) == sorted(set(running) - set(once))


def test_a_rolling_update_stops_at_a_container_that_is_not_ready(roll: Callable[..., Any]) -> None:
    status, done, error = roll("compose.yml", "worker", "consumer", UNREADY="worker")
    assert (status, "worker isn't ready" in error) == (1, True)
    assert done == [REPLACE + "worker"]

    status, done, error = roll("compose.yml", "web-2", UNREADY="web-1")
    assert (status, done) == (1, [])
    assert "web-1 isn't ready, so web-2 must stay" in error


@pytest.mark.parametrize("unready", ["web-1", "web-2"])
def test_a_rolling_update_begins_with_the_container_that_is_not_ready(
    roll: Callable[..., Any], unready: str
) -> None:
    """A failed update leaves one like this. The next update must get past it."""
    status, done, _ = roll("compose.yml", UNREADY=unready, RECOVERS="yes")

    assert status == 0
    replaced = [line for line in done if line.startswith(REPLACE)]
    assert replaced[-2] == REPLACE + unready
    assert {*replaced[-2:]} == {REPLACE + "web-1", REPLACE + "web-2"}


@pytest.mark.parametrize(
    ("variables", "status", "why"),
    [
        ({"FAILS": "recreate web-1"}, 1, "web-1 was not replaced"),
        ({"FAILS": "reload"}, 1, "front has not loaded its configuration"),
        ({"INTERRUPTED": "recreate web-1"}, 130, "interrupted"),
    ],
)
def test_a_rolling_update_that_ends_early_replaces_no_more_and_says_what_to_do(
    roll: Callable[..., Any], variables: dict[str, str], status: int, why: str
) -> None:
    found, done, error = roll("compose.yml", **variables)

    assert (found, why in error, "run rolling.sh again" in error) == (status, True, True)
    assert [line for line in done if line.endswith(" web-2")] == []


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["compose.yml", "--help"], ["compose.yml", "postgres"]]
)
def test_a_rolling_update_with_unknown_arguments_does_nothing(
    roll: Callable[..., Any], arguments: list[str]
) -> None:
    assert roll(*arguments)[:2] == (2, [])


@pytest.mark.parametrize("shape", SHAPES)
def test_clients_reach_every_shape_through_nginx_alone(shape: str) -> None:
    published = [key for key, service in services(shape).items() if service.get("ports")]

    assert published == ["front"]


def test_the_dockerfile_builds_on_a_pinned_python_and_runs_unprivileged() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    defaults = [line.split()[1] for line in lines if line.startswith("ARG ")]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]

    assert bases == {"${PYTHON_IMAGE}"}
    assert defaults == ["PYTHON_IMAGE=python:3.13-slim"]
    assert users == ["10001"]


@pytest.mark.parametrize("shape", SHAPES)
def test_ports_are_published_on_the_loopback_interface_only(shape: str) -> None:
    ports = [port for service in services(shape).values() for port in service.get("ports", ())]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize(("name", "other"), [("accounts", "orders"), ("orders", "accounts")])
def test_a_deployment_has_no_access_to_the_others_data(name: str, other: str) -> None:
    for service in of_deployment(name).values():
        names = {key for key in service["environment"] if key.startswith(other.upper())}
        assert names == {f"{other.upper()}_URL", f"{other.upper()}_PUBLIC_URL"}
        assert [secret for secret in service["secrets"] if secret.startswith(other)] == []


def test_only_accounts_can_sign_tokens() -> None:
    for service in of_deployment("orders").values():
        assert "JWT_SIGNING_KEY_FILE" not in service["environment"]
        assert "jwt-signing-key" not in service["secrets"]


@pytest.mark.parametrize("shape", SHAPES)
def test_only_provision_gets_the_administrators_address(shape: str) -> None:
    holders = {
        key
        for key, service in services(shape).items()
        if "admin-database-url" in service.get("secrets", ())
    }

    assert holders == {key for key in services(shape) if key.endswith("provision")}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_process_that_stays_running_gets_the_address_of_an_owner(shape: str) -> None:
    holders = {
        key
        for key, service in services(shape).items()
        if any("owner" in secret for secret in service.get("secrets", ()))
    }

    assert holders == {key for key in services(shape) if key.endswith(("provision", "migrate"))}


@pytest.mark.parametrize(("name", "other"), [("accounts", "orders"), ("orders", "accounts")])
def test_a_deployment_has_users_of_its_own_on_the_stream_server(name: str, other: str) -> None:
    for service in of_deployment(name).values():
        assert {f"{name}-streams-url", f"{name}-broker-url"} <= set(service["secrets"])
        assert [s for s in service["secrets"] if s.startswith((other, "all-"))] == []


def test_the_users_of_the_stream_server_have_the_rights_of_the_embedded_stack() -> None:
    lines = (DOCKER / "streams.users").read_text().splitlines()
    written = [line for line in lines if not line.startswith("#")]

    assert written == [
        f"user {name} {' '.join(rights)}" for name, rights in all_rules(lab=False).items()
    ]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """secrets.sh in a folder of its own, without secrets."""
    shutil.copy(DOCKER / "streams.users", tmp_path)
    return Path(shutil.copy(DOCKER / "secrets.sh", tmp_path))


def test_every_secret_is_a_file_that_secrets_sh_makes_once(script: Path, tmp_path: Path) -> None:
    declared = document("servers.yml")["secrets"]

    assert subprocess.run([script, "--help"], stderr=subprocess.DEVNULL, check=False).returncode
    assert not (tmp_path / "secrets").exists()
    subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    again = subprocess.run([script], check=True, capture_output=True, text=True)

    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {name: f"./secrets/{name}" for name in made} == {
        name: secret["file"] for name, secret in declared.items()
    }
    assert again.stdout + again.stderr == ""
    assert made == {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}


@pytest.fixture
def earlier(tmp_path: Path) -> dict[str, str]:
    """Files in the form of release 0.2.0: one role for each service, one user for all streams."""
    files = {"streams.conf": "requirepass shared\n"}
    for name, number in (("streams", 0), ("broker", 1)):
        files[f"{name}-url"] = f"redis://:shared@streams:6379/{number}\n"
    for service in ("accounts", "orders"):
        role = f"postgresql://{service}:{service}-password"
        files[f"{service}-database-url"] = f"{role}@postgres:5432/mitosis\n"
        files[f"{service}-replica-urls"] = f"{role}@postgres-replica:5432/mitosis\n"
    (tmp_path / "secrets").mkdir()
    for name, text in files.items():
        (tmp_path / "secrets" / name).write_text(text)
    return files


def secrets_after(script: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    ran = subprocess.run([script], capture_output=True, text=True, check=False)
    return ran, {file.name: file.read_text() for file in (script.parent / "secrets").iterdir()}


def test_secrets_of_an_earlier_release_get_readers_and_keep_the_rest(
    script: Path, earlier: dict[str, str]
) -> None:
    ran, made = secrets_after(script)

    assert ran.returncode == 0, ran.stderr
    for service in ("accounts", "orders"):
        del earlier[f"{service}-replica-urls"]
        reader = rf"postgresql://{service}_reader:[0-9a-f]{{64}}@postgres-replica:5432/mitosis\n"
        assert re.fullmatch(reader, made[f"{service}-replica-urls"])
    assert {name: made[name] for name in earlier} == earlier
    # Its processes knew the password that is now the administrator's.
    assert "Replace it" in ran.stderr
    for name in ("streams.conf", "streams-url", "broker-url"):
        (script.parent / "secrets" / name).unlink()
    ran, after = secrets_after(script)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [name for name, text in after.items() if "shared" in text] == []
    assert {name for name in after if after[name] != made[name]} == {
        "streams.conf",
        "streams-users",
    }


def test_replicas_on_servers_of_your_own_keep_their_addresses(
    script: Path, earlier: dict[str, str]
) -> None:
    own = earlier["accounts-replica-urls"].strip() + ",postgresql://accounts:x@10.0.0.2/mitosis\n"
    (script.parent / "secrets" / "accounts-replica-urls").write_text(own)

    assert secrets_after(script)[1]["accounts-replica-urls"] == own


@pytest.mark.parametrize("kind", ["streams", "broker"])
def test_a_stream_server_of_your_own_is_never_replaced_by_the_container(
    script: Path, earlier: dict[str, str], kind: str
) -> None:
    folder = script.parent / "secrets"
    (folder / f"{kind}-url").write_text("redis://:x@10.0.0.9:6379/0\n")

    needed = [f"{each}-{kind}-url" for each in ("all", "accounts", "orders")]
    if kind == "streams":
        needed.append("ring-store-url")
    for name in needed:
        ran, made = secrets_after(script)
        assert ran.returncode == 1
        assert f"{kind}-url is not read any more" in ran.stderr
        assert name not in made
        (folder / name).write_text("redis://someone:x@10.0.0.9/0\n")
    assert secrets_after(script)[0].returncode == 0


@pytest.mark.parametrize(
    ("https", "proxies", "error"),
    [
        # nginx would say that each request is plain HTTP, and each answer would be a redirect.
        *[("on", "1", "needs PROXIES=2"), ("True", "", "needs PROXIES=2"), ("on", "2", "")],
        # All clients would have the address of nginx.
        *[("off", "0", "at least 1"), ("on", "0", "at least 1"), ("off", "one", "at least 1")],
        ("off", "", ""),
    ],
)
def test_nginx_refuses_a_wrong_number_of_proxies(https: str, proxies: str, error: str) -> None:
    variables = {"PATH": os.environ["PATH"], "HTTPS": https, "PROXIES": proxies}
    command = ["sh", str(DOCKER / "nginx" / "start.sh"), "no-such-shape"]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    assert ran.returncode != 0  # the shape doesn't exist
    assert error in ran.stderr
    assert ("front:" in ran.stderr) == bool(error)


FAKE_NGINX: Final = """\
#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in *" -t") exit "$WRONG" ;; esac
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs start.sh with an nginx that only notes its arguments."""
    text = (DOCKER / "nginx" / "start.sh").read_text()
    text = text.replace("/etc/nginx/conf.d", f"{tmp_path}").replace(
        ' "/nginx/', f' "{DOCKER}/nginx/'
    )
    (tmp_path / "nginx").write_text(FAKE_NGINX)
    (tmp_path / "nginx").chmod(0o755)

    def run(*arguments: str, wrong: bool = False) -> tuple[int, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        path = f"{tmp_path}:{os.environ['PATH']}"
        variables = {"PATH": path, "LOG": str(log), "WRONG": str(int(wrong))}
        command = ["sh", "-c", text, "sh", *arguments]
        ran = subprocess.run(command, env=variables, check=False)
        return ran.returncode, [
            line.removeprefix("-e /dev/stderr ") for line in log.read_text().splitlines()
        ]

    return run


def test_nginx_loads_a_changed_configuration_only_if_it_is_right(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    main = "-c /nginx/nginx.conf"
    assert start("services") == (0, [f"{main} -g daemon off;"])
    (tmp_path / "default.conf").write_text("of the previous release")

    assert start("services", "reload") == (0, [f"{main} -q -t", f"{main} -s reload"])
    assert (tmp_path / "default.conf").read_text() == (
        DOCKER / "nginx" / "services.conf"
    ).read_text()
    assert start("services", "reload", wrong=True) == (1, [f"{main} -q -t"])


@pytest.mark.parametrize("arguments", [["monolith", "--help"], ["no-such-shape"], []])
def test_nginx_with_unknown_arguments_does_nothing(
    start: Callable[..., Any], arguments: list[str]
) -> None:
    assert start(*arguments) == (2, [])


# The names that no compose file sets, with the reason.
UNSET: Final = {
    "DEBUG": "containers are for production",
    "LAB": "the image doesn't contain the lab",
    "STATIC_ROOT": "static files are served from the packages of the image",
    "PROCESS": "the entrypoint sets it",
    "DRAIN_FILE": "the entrypoint sets it",
    "DRAIN_SECONDS": "rolling.sh runs `drain`, in a process of its own",
    "PROGRESS_FOLDER": "the entrypoint sets it",
    "PLACEMENT_STATEMENT_TIMEOUT_SECONDS": "the entrypoint sets it for web",
}
# The names that only some processes get: which ones, by SERVICE and command.
LIMITED: Final = {
    "PLACEMENT_ADMIN_DATABASE_URL": r"\w+ provision",
    "ACCOUNTS_OWNER_DATABASE_URL": r"(all|accounts) (provision|prepare)",
    "ORDERS_OWNER_DATABASE_URL": r"(all|orders) (provision|prepare)",
    "PLACEMENT_POOLER": r"\w+ web",  # relays and consumers refuse a pooler
    "ORDERS_DEADLINE_SECONDS": r"(all|orders) .*",
    "ORDERS_IDEMPOTENCY_SECONDS": r"(all|orders) .*",
    "TOKENS_WITHOUT_AUDIENCE": r"orders .*",  # beside an older accounts
    "JWT_SIGNING_KEY": r"(all|accounts) .*",
    "JWKS": r"orders .*",  # the others have the keys
    # Of the other service. The monolith has an address for the requests of its own services.
    "ACCOUNTS_URL": r"(all|orders) .*",
    "ORDERS_URL": r"accounts .*",
    "ACCOUNTS_PUBLIC_URL": r"orders .*",
    "ORDERS_PUBLIC_URL": r"accounts .*",
}


class Asked(dict[str, str]):
    """An environment that notes the names that are read."""

    def get(self, name: str, default: Any = None) -> Any:
        self.setdefault(name, "")
        return super().get(name, default)


def names_that_are_read(service: str) -> set[str]:
    asked = Asked(SERVICE=service)
    with suppress(BadEnvironment):
        read(asked)
    text = (DOCKER / "entrypoint.py").read_text()
    names = asked.keys() | set(re.findall(r'setting\("(\w+)"', text))
    return names - {f"{name}_FILE" for name in names}  # a variable or its file


@pytest.mark.parametrize("shape", SHAPES)
def test_every_variable_reaches_the_processes_that_read_it(shape: str) -> None:
    for key, service in services(shape).items():
        if service["image"] != OURS:
            continue
        given, [program, *_] = service["environment"], service["command"]
        who = f"{given['SERVICE']} {program}"
        expected = {
            name
            for name in names_that_are_read(given["SERVICE"]) - UNSET.keys()
            if re.fullmatch(LIMITED.get(name, ".*"), who)
        }
        assert {name.removesuffix("_FILE") for name in given} == expected, key


@pytest.mark.parametrize("shape", SHAPES)
def test_a_variable_of_the_host_has_the_name_that_the_process_reads(shape: str) -> None:
    for key, service in services(shape).items():
        for name, value in service.get("environment", {}).items():
            if str(value).startswith("${"):
                assert value.startswith(f"${{{name}:-"), (key, name)
    fronts = services(shape)["front"]["environment"]
    assert fronts == {"HTTPS": "${HTTPS:-off}", "PROXIES": "${PROXIES:-1}"}
    assert services(shape)["postgres-replica"]["environment"]["WAIT_SECONDS"] == "${WAIT_SECONDS:-}"


FAKE_ENGINE: Final = """\
#!/bin/sh
for image do :; done  # the last argument
[ "$1" = pull ] || echo "$image@sha256:$(echo "$image$RELEASE" | sha256sum | cut -c -64)"
"""


def test_the_digests_of_all_images_are_written_once_and_renewed(tmp_path: Path) -> None:
    for file in [DOCKER / "pin.sh", *DOCKER.glob("*.yml")]:
        shutil.copy(file, tmp_path)
    (tmp_path / "engine").write_text(FAKE_ENGINE)
    (tmp_path / "engine").chmod(0o755)
    (tmp_path / ".env").write_text("PORT=9000\n")

    def pin(release: str) -> dict[str, str]:
        variables = {"PATH": os.environ["PATH"], "ENGINE": "./engine", "RELEASE": release}
        subprocess.run([tmp_path / "pin.sh"], check=True, env=variables, stdout=subprocess.DEVNULL)
        lines = (tmp_path / ".env").read_text().splitlines()
        assert lines[0] == "PORT=9000"
        return dict(line.split("=", 1) for line in lines[1:])

    first, second = pin("1"), pin("2")

    names = {"PYTHON_IMAGE", "POSTGRES_IMAGE", "VALKEY_IMAGE", "NGINX_IMAGE"}
    assert set(first) == set(second) == names
    assert first["PYTHON_IMAGE"].startswith("python:3.13-slim@sha256:")
    assert set(first.values()).isdisjoint(second.values())


def test_git_and_the_image_exclude_the_secrets() -> None:
    assert "/secrets/" in (DOCKER / ".gitignore").read_text().split()
    lines = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert [rule for rule in rules if rule.startswith(("!docker/secrets", "!.", "!*"))] == []
    assert "!docker" not in rules


@pytest.mark.parametrize("shape", SHAPES)
def test_a_process_gets_the_secrets_that_it_reads(shape: str) -> None:
    for key, service in services(shape).items():
        texts = [*service.get("environment", {}).values(), *service.get("command", ())]
        read = {text[13:] for text in map(str, texts) if text.startswith("/run/secrets/")}
        assert read <= set(service.get("secrets", ())), key


@pytest.mark.parametrize("shape", SHAPES)
def test_no_compose_file_contains_a_secret(shape: str) -> None:
    for key, service in services(shape).items():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|DATABASE_URL|_URLS|STREAMS|BROKER", name):
                assert name.endswith("_FILE"), f"{key}: {name}"
                assert str(value).startswith("/run/secrets/"), f"{key}: {name}"
    for file in DOCKER.glob("*.yml"):
        assert not re.search(r"://[^/\s]*:[^/\s]*@|requirepass \S{8}", file.read_text()), file


@pytest.mark.parametrize("shape", SHAPES)
def test_services_restart_and_one_off_tasks_do_not(shape: str) -> None:
    for key, service in services(shape).items():
        once = key.endswith(("provision", "migrate"))
        assert service["restart"] == ("no" if once else "unless-stopped"), key


def test_the_image_contains_neither_the_stack_nor_the_tests() -> None:
    lines = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}

    assert rules[0] == "*"
    assert {"config", "manage.py"} <= allowed
    assert allowed.isdisjoint({"stack", "tests", "dev"})
