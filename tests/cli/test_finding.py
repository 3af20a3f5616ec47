"""The way to a gateway: by what it noted, by its config, by what the command line says."""

from __future__ import annotations

from pathlib import Path

import click
import jwt
import pytest

from tests.cli.conftest import Call
from trio_gateway.cli.finding import Place, find

FILE = "gateway.yaml"
SECRET = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def folder(call: Call) -> Path:
    """The state directory of a gateway by `gateway.yaml`, in the current folder."""
    Path("state").mkdir()
    Path("state/secret").write_text(SECRET)
    write()
    return Path("state")


def write(*lines: str) -> None:
    Path(FILE).write_text("\n".join(["state_dir: state", *lines]))


def claims(place: Place, **options: str) -> dict[str, object]:
    assert place.token is not None
    told: dict[str, object] = jwt.decode(place.token, SECRET, algorithms=["HS256"], **options)  # type: ignore[arg-type]
    return told


# ---- the address ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noted", "urls"),
    [
        ("127.0.0.1:8001\n", ("http://127.0.0.1:8001",)),
        ("192.0.2.7:80\n[2001:db8::1]:81\n", ("http://192.0.2.7:80", "http://[2001:db8::1]:81")),
        ("0.0.0.0:8000\n[::]:8000\n", ("http://127.0.0.1:8000", "http://[::1]:8000")),
        ("unix:/run/my gateway.sock\n127.0.0.1:1\n", ("unix:/run/my gateway.sock", "http://127.0.0.1:1")),
    ],
)
def test_what_the_gateway_noted_counts(folder: Path, noted: str, urls: tuple[str, ...]) -> None:
    """Whoever listens on every address is called on loopback."""
    (folder / "addresses").write_text(noted)
    assert find(FILE, None, None, "read").urls == urls


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("", "http://127.0.0.1:8000"),
        ("server: {bind: ['[::1]:8002', '127.0.0.1:8003']}", "http://[::1]:8002"),
        ("admin: {bind: '127.0.0.1:9000'}", "http://127.0.0.1:9000"),
        ("admin: {bind: 'unix:/run/admin.sock'}", "unix:/run/admin.sock"),
        ("server: {bind: ['fd://3', '127.0.0.1:0', '127.0.0.1:8003']}", "http://127.0.0.1:8003"),
    ],
)
def test_without_a_note_the_config_says_it(line: str, url: str) -> None:
    """Where the management API has a listener of its own, it is that."""
    write(line)
    assert find(FILE, None, None, "read").urls[0] == url


def test_a_port_that_the_system_chose_must_be_noted() -> None:
    """Without the note there is no gateway, and one line says where it was looked for."""
    write("server: {bind: ['127.0.0.1:0']}")
    with pytest.raises(click.ClickException, match=r"no gateway is there: .* in state"):
        find(FILE, None, None, "read")


def test_the_config_is_found_as_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By CONFIG_PATH where no file is named; without any file the defaults hold."""
    monkeypatch.setenv("CONFIG_PATH", FILE)
    write("server: {bind: ['127.0.0.1:8009']}")
    assert find(None, None, None, "read").urls == ("http://127.0.0.1:8009",)
    monkeypatch.delenv("CONFIG_PATH")
    monkeypatch.setenv("STATE_DIRECTORY", "state")
    place = find(None, None, None, "read")
    assert place.urls == ("http://127.0.0.1:8000",)
    assert claims(place)


# ---- the key ----------------------------------------------------------------------------------------


def test_a_token_is_made_for_one_call() -> None:
    """With no larger scope than the verb needs, for a minute."""
    told = claims(find(FILE, None, None, "operate"))
    assert told["scope"] == "operate"
    assert told["exp"] - told["iat"] == 60  # type: ignore[operator]


def test_it_says_what_the_config_asks_for() -> None:
    """Audience and issuer, under the config's own secret."""
    Path("key").write_text(SECRET)
    Path("state/secret").unlink()
    write("admin: {auth: {jwt: {secret_file: key, audience: a, issuer: i}}}")
    assert claims(find(FILE, None, None, "read"), audience="a", issuer="i")


def test_what_is_given_needs_no_config() -> None:
    """Url and token together lead there from any machine."""
    assert find("gone.yaml", "http://h:1", "t", "read") == Place(("http://h:1",), "t")


def test_either_can_be_given_alone(folder: Path) -> None:
    """The other is found."""
    (folder / "addresses").write_text("127.0.0.1:8001\n")
    assert find(FILE, None, "t", "read") == Place(("http://127.0.0.1:8001",), "t")
    place = find(FILE, "http://h:1", None, "read")
    assert place.urls == ("http://h:1",)
    assert claims(place)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("admin: {auth: none}", ""),
        (
            "admin: {auth: {jwt: {jwks_url: 'https://k/', algorithms: [RS256]}}}",
            "tokens come from your issuer",
        ),
        ("admin: {auth: {jwt: {secret_file: absent}}}", "secret_file: cannot be read"),
    ],
)
def test_a_config_without_a_key_is_no_error(line: str, why: str) -> None:
    """The call is tried without a token, and should it be refused, it is known why."""
    write(line)
    place = find(FILE, None, None, "read")
    assert place.token is None
    assert why in place.why
    assert bool(why) == bool(place.why)


def test_a_secret_that_cannot_be_read_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not there, or not for this user; nothing is made, and nothing is logged beside it."""
    (folder / "secret").unlink()
    assert find(FILE, None, None, "read").why.startswith("state: there is no secret: call as")
    assert not (folder / "secret").exists()
    (folder / "secret").mkdir()
    assert find(FILE, None, None, "read").why.startswith("state: secret: Is a directory: call as")
    assert capfd.readouterr() == ("", "")


def test_a_token_is_not_shown() -> None:
    """Not in a traceback either."""
    assert "hidden" not in repr(Place((), "hidden"))


# ---- a config with mistakes -------------------------------------------------------------------------


def test_mistakes_elsewhere_do_not_matter(call: Call) -> None:
    """A bad edit of an endpoint does not lock the operator out."""
    write("endpoints: [{url: nonsense}]", "server: {bind: ['127.0.0.1:1']}")
    result = call("status", "-c", FILE)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no gateway answers at http://127.0.0.1:1: ")


@pytest.mark.parametrize(
    "line",
    ["admin: {bind: nowhere}", "server: {bind: 7}", "state_dir: [a]", "a: [", "state_dir: a\nstate_dir: b"],
)
def test_mistakes_on_the_way_do(call: Call, line: str) -> None:
    """Rather no gateway than another one."""
    Path(FILE).write_text(f"{line}\nendpoints: [{{url: nonsense}}]\n")
    result = call("status", "-c", FILE)
    assert result.exit_code == 2
    assert result.stderr.startswith(FILE)
    assert "nonsense" not in result.stderr


def test_a_file_that_is_not_there_is_bad_usage(call: Call) -> None:
    """When it was named."""
    assert call("status", "-c", "gone.yaml").exit_code == 2
