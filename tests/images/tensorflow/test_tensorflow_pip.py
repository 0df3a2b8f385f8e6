"""pip install without root: into the home folder, which a volume keeps."""

import base64
import hashlib
import zipfile

import containers
import pytest

HOME = "/home/jovyan"
FILES = {
    "tiny_greeting.py": "def main():\n    print('hello from the wheel')\n",
    "tiny_greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-greeting\n"
    "Version: 1.0\n",
    "tiny_greeting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
    "Root-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_greeting-1.0.dist-info/entry_points.txt": "[console_scripts]\n"
    "tiny-greeting = tiny_greeting:main\n",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder that holds one small wheel with one command."""
    folder = tmp_path_factory.mktemp("wheel")
    record = "tiny_greeting-1.0.dist-info/RECORD"
    rows = [f"{record},,"]
    with zipfile.ZipFile(folder / "tiny_greeting-1.0-py3-none-any.whl", "w") as archive:
        for name, text in FILES.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            rows.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text)}")
            archive.writestr(name, text)
        archive.writestr(record, "\n".join(rows) + "\n")
    folder.chmod(0o755)
    return folder


def install(image: str, wheel, *options: str) -> str:
    """Install the wheel and return what pip prints on both streams."""
    done = containers.run(
        image, "pip", "install", "--no-index", "--find-links", "/wheels", "tiny-greeting",
        options=["--volume", f"{wheel}:/wheels:ro", *options],
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("user", ["1000:100", "4242:0"])
def test_what_pip_installs_stays_on_the_home_volume(image, wheel, user):
    with containers.volume() as volume:
        options = ["--volume", f"{volume}:{HOME}", "--user", user]
        said = install(image, wheel, *options)
        assert "Successfully installed tiny-greeting-1.0" in said
        assert "error" not in said.lower()
        # Another container, by module and by command.
        code = "python -c 'import tiny_greeting as t; print(t.__file__)'; tiny-greeting; pip check"
        done = containers.run(image, "bash", "-lc", code, options=options)
        assert done.stdout.splitlines()[:2] == [
            f"{HOME}/.local/lib/python3.13/site-packages/tiny_greeting.py", "hello from the wheel",
        ]


def test_pip_without_a_volume_leaves_the_image_alone(image, wheel):
    install(image, wheel)
    done = containers.run(image, "python", "-c", "import tiny_greeting", check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_pip_finds_every_requirement_met(host):
    # libclang is pruned to its metadata; every requirement must still be met by name.
    done = host.run("pip check")
    assert done.stdout == "No broken requirements found.\n", done.stdout


def test_tensorflow_works_where_only_tmp_can_be_written(image):
    done = containers.run(
        image, "python", "-c", "import tensorflow as tf, keras; print(tf.add(1, 2).numpy())",
        options=["--read-only", "--tmpfs", "/tmp", "--user", "31337:31337", "--cap-drop", "ALL"],
    )
    assert done.stdout.splitlines()[-1] == "3"
