"""Completion in the shells themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_macvlan_egress.admin import command_line
from cni_macvlan_egress.admin.command_line import COMMANDS
from cni_macvlan_egress.admin.completion import SHELLS

from .terminal import Terminal

# As a real completion calls it: the words up to the cursor, the last one unfinished.
IN_BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_macvlan_egress
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""
PROMPT = "READY>"
# Words before the cursor, and all that can follow.
CASES = [
    (["pol"], {"policy"}),
    (["m"], {"manual", "metrics", "migrate"}),
    (["policy", ""], {"explain", "status", "sync", "validate"}),
    (["policy", "s"], {"status", "sync"}),
    (["policy", "status", "--c"], {"--conflist"}),
    (["plan", "--"], {"--help", "--filename", "--conflist", "--netns", "--json"}),
    (["completion", ""], set(SHELLS)),
    (["plan", "-f", "FILES/m"], {"FILES/manifest.yaml", "FILES/more"}),
    (["validate", "FILES/a b"], {"FILES/a b.conflist"}),
    (["launcher", "--write", "FILES/m"], {"FILES/more"}),
    (["plan", "--json", "--conflist", "FILES/a"], {"FILES/a b.conflist"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the script of each shell, as the command prints it."""
    directory = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        with pytest.MonkeyPatch.context() as patch, (directory / shell).open("w") as file:
            patch.setattr("sys.stdout", file)
            assert command_line.main(["completion", shell]) == 0
    return directory


@pytest.fixture
def files(tmp_path: Path) -> str:
    for name in ("manifest.yaml", "a b.conflist", "else.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    return str(tmp_path)


def ask_bash(script: Path, words: list[str]) -> set[str]:
    argv = ["bash", "--norc", "-c", IN_BASH, "bash", str(script), "macvlan-egress", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.splitlines())


def ask_fish(script: Path, words: list[str]) -> set[str]:
    line = " ".join(word.replace(" ", "\\ ") for word in ["macvlan-egress", *words])
    argv = ["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", str(script), line]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stderr == ""
    return {one.partition("\t")[0].rstrip("/").replace("\\ ", " ") for one in done.stdout.splitlines()}


@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES])
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_shell_offers_what_can_follow(
    scripts: Path, files: str, shell: str, words: list[str], expected: set[str]
) -> None:
    ask: Callable[[Path, list[str]], set[str]] = {"bash": ask_bash, "fish": ask_fish}[shell]
    found = ask(scripts / shell, [word.replace("FILES", files) for word in words])
    assert found == {word.replace("FILES", files) for word in expected}


def test_bash_takes_a_value_behind_an_equals_sign(scripts: Path, files: str) -> None:
    assert ask_bash(scripts / "bash", ["plan", "--conflist", "=", f"{files}/a"]) == {f"{files}/a b.conflist"}
    assert "bash" not in ask_bash(scripts / "bash", ["plan", "--conflist", "="])


def test_bash_offers_nothing_where_only_the_admin_knows(scripts: Path) -> None:
    assert ask_bash(scripts / "bash", ["daemon", "--workers", ""]) == set()
    assert ask_bash(scripts / "bash", ["policy", "explain", "sh"]) == set()


def test_option_is_no_command(scripts: Path) -> None:
    """A value that is called like a command does not lead there."""
    assert "--follow" not in ask_bash(scripts / "bash", ["policy", "status", "--conflist", "sync", "-"])


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_completed(scripts: Path, shell: str) -> None:
    text = (scripts / shell).read_text()
    assert not [name for name in COMMANDS if name not in text]


def test_bash_completes_at_the_keyboard(scripts: Path, files: str) -> None:
    with Terminal(["bash", "--norc", "-i"], environment={"PS1": PROMPT, "HISTFILE": ""}) as bash:
        bash.read_until(PROMPT)
        bash.type(f"source {scripts}/bash; macvlan-egress() {{ printf '<%s>' \"$@\"; }}\n")
        bash.read_until(PROMPT)
        for typed, expected in [
            ("pol\tex\tshop", "<policy><explain><shop>"),
            (f"plan --conf\t{files}/a\t", f"<plan><--conflist><{files}/a b.conflist>"),
        ]:
            bash.type(f"macvlan-egress {typed}\n")
            assert expected in bash.read_until(">" + PROMPT)


def test_zsh_completes_at_the_keyboard(scripts: Path, files: str) -> None:
    with Terminal(["zsh", "-f", "-i"], environment={"PS1": PROMPT, "HISTFILE": ""}, columns=200) as zsh:
        zsh.read_until(PROMPT)
        zsh.type("unset zle_bracketed_paste; unsetopt PROMPT_SP; autoload -Uz compinit && compinit -u -D\n")
        zsh.read_until(PROMPT)
        zsh.type(f"source {scripts}/zsh; macvlan-egress() {{ printf '<%s>' \"$@\"; echo }}\n")
        zsh.read_until("echo }")
        for typed, expected in [
            ("pol\tex\tshop", "<policy><explain><shop>"),
            ("plan --confl\tx", "<plan><--conflist=x>"),
            ("completion z\t", "<completion><zsh>"),
            (f"plan -f {files}/a\t", f"<plan><-f><{files}/a b.conflist>"),
            (f"launcher --write {files}/m\t", f"<launcher><--write><{files}/more>"),
        ]:
            zsh.read_until(PROMPT)
            zsh.type(f"macvlan-egress {typed}\n")
            assert expected in zsh.read_until(">\n")


def test_zsh_lists_commands_with_what_they_do(scripts: Path) -> None:
    with Terminal(["zsh", "-f", "-i"], environment={"PS1": PROMPT, "HISTFILE": ""}, columns=200) as zsh:
        zsh.read_until(PROMPT)
        zsh.type(
            f"unset zle_bracketed_paste; autoload -Uz compinit && compinit -u -D; source {scripts}/zsh\n"
        )
        zsh.read_until(PROMPT)
        zsh.type("macvlan-egress policy \t")
        shown = zsh.read_until("validate")
        assert "explain   -- say which rule decides about a destination, and why" in shown


def test_zsh_script_works_from_fpath(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "_macvlan-egress").write_text((scripts / "zsh").read_text())
    with Terminal(["zsh", "-f", "-i"], environment={"PS1": PROMPT, "HISTFILE": ""}, columns=200) as zsh:
        zsh.read_until(PROMPT)
        setup = f"fpath=({tmp_path} $fpath); autoload -Uz compinit && compinit -u -D"
        zsh.type(f"unset zle_bracketed_paste; {setup}; macvlan-egress() {{ printf '<%s>' \"$@\"; echo }}\n")
        zsh.read_until("echo }")
        zsh.read_until(PROMPT)
        # The first call loads the file, and completes at once.
        zsh.type("macvlan-egress pol\tsy\t\n")
        assert "<policy><sync>" in zsh.read_until(">\n")
