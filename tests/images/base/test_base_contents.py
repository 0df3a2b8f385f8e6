"""What an image holds, and what the build must not leave behind."""

import datetime
import io
import json
import os
import stat
import tarfile

import containers
import pytest

from scripts import build, fetch, locks

#: How many of the locks an image is made from.
DEPTH = {"base": 1, "tensorflow": 2, "jupyter": 3}


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """What a build of this tree hands to bake now."""
    drifted = bool(os.environ.get("HOTHOUSE_DRIFTED"))
    return build.variables_of(fetch.run(("cpu",), allow_drift=drifted))


def test_the_labels_are_those_of_a_build_of_this_tree(image, image_name, variables):
    labels = containers.inspect(image)["Config"]["Labels"]
    assert labels == {
        "org.opencontainers.image.revision": variables["REVISION"],
        "org.opencontainers.image.title": f"hothouse/{image_name}",
        "org.opencontainers.image.vendor": "Hothouse",
        "io.hothouse.builder": variables["BUILDER"],
        "io.hothouse.drifted": variables["DRIFTED"],
        "io.hothouse.epoch": variables["SOURCE_DATE_EPOCH"],
        "io.hothouse.lock": variables[f"LOCK_{image_name.upper()}"],
    }


def test_the_image_does_not_differ_from_its_lock(image, locked_bytes):
    assert containers.inspect(image)["Config"]["Labels"]["io.hothouse.drifted"] == "false"


def test_the_image_was_created_at_the_locks_date(image):
    created = containers.inspect(image)["Created"].replace("Z", "+00:00")
    assert datetime.datetime.fromisoformat(created).timestamp() == locks.epoch()


def test_debian_packages_are_those_of_the_lock(host, locked_bytes):
    shown = host.check_output("dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n'")
    lock = locks.read(locks.DEBS).select(build.PLATFORM, "any")
    wanted = sorted(f"{p.name} {p.version} ii" for p in lock if p.layer == "base")
    assert sorted(line.strip() for line in shown.splitlines()) == wanted


def test_python_packages_are_those_of_the_locks(host, image_name, variant):
    shown = host.check_output(
        "python -c \"import importlib.metadata as m, json; "
        "print(json.dumps([[d.name, d.version] for d in m.distributions()]))\""
    )
    found = sorted((name.lower().replace("_", "-").replace(".", "-"), version)
                   for name, version in json.loads(shown))
    used = [locks.read(path) for path in locks.ALL[1 : DEPTH[image_name]]]
    wanted = [(p.name, p.version) for lock in used for p in lock.select(build.PLATFORM, variant)]
    assert found == sorted(wanted)


def test_no_file_gives_its_user_more_rights(files):
    strong = [path for path, (mode, *_, attributes) in files.items()
              if mode & (stat.S_ISUID | stat.S_ISGID) or "security.capability" in attributes]
    assert strong == []


def test_only_temporary_folders_are_open_to_everybody(files):
    open_to_all = [path for path, (mode, *_) in files.items()
                   if not stat.S_ISLNK(mode) and mode & stat.S_IWOTH]
    assert sorted(open_to_all) == ["/tmp", "/var/tmp"]


def test_all_outside_the_home_folder_belongs_to_root(files):
    known = {"/var/mail", "/var/local"}  # of Debian's base-files, for its groups
    foreign = [path for path, (_, uid, gid, *_) in files.items()
               if (uid, gid) != (0, 0) and not path.startswith("/home/") and path not in known]
    # Groups of Debian's own packages on files that their group alone may read.
    assert [path for path in foreign if files[path][1] != 0] == []


def test_no_log_cache_or_list_is_left_behind(files):
    places = ("/var/log/", "/var/cache/", "/var/lib/apt/lists/", "/tmp/", "/var/tmp/", "/run/",
              "/root/.", "/home/jovyan/")
    left = [path for path, (mode, *_) in files.items()
            if path.startswith(places) and not stat.S_ISDIR(mode)]
    skeleton = {"/root/.bashrc", "/root/.profile"}
    assert [path for path in left if path not in skeleton] == []


def test_no_machine_and_no_backup_file_is_left_behind(files):
    ends = ("-", "-old", ".dpkg-old", ".dpkg-new", ".bak", "~", ".lock")
    left = [path for path in files
            if path.startswith(("/etc/", "/var/lib/dpkg/")) and path.endswith(ends)]
    assert [path for path in left if files[path][3]] == []
    assert not {"/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/.pwd.lock"} & set(files)


def test_the_builders_names_and_servers_are_not_in_the_image(image):
    name = containers.unique("created")
    try:
        # Never started, so these files are the image's own (the engine adds empty ones).
        docker_id = containers.docker("create", "--name", name, image).stdout.strip()
        for path in ("etc/hostname", "etc/resolv.conf", "etc/hosts"):
            done = containers.docker("cp", f"{docker_id}:/{path}", "-", check=False)
            if done.returncode == 0:
                with tarfile.open(fileobj=io.BytesIO(done.stdout.encode())) as tree:
                    assert [member.size for member in tree] == [0], path
    finally:
        containers.docker("rm", "--force", name, check=False)


def test_every_pyc_has_its_source(files):
    orphans = []
    for path in files:
        if path.endswith(".pyc"):
            folder, _, name = path.rpartition("/")
            source = f"{folder.removesuffix('/__pycache__')}/{name.split('.')[0]}.py"
            if not folder.endswith("/__pycache__") or source not in files:
                orphans.append(path)
    assert orphans == []


def test_every_module_was_compiled(files):
    places = ("/usr/lib/python3", "/usr/local/lib/python3")
    sources = [path for path in files if path.endswith(".py") and path.startswith(places)]
    assert len(sources) > 500
    bare = [path for path in sources
            if "{}/__pycache__/{}.cpython-313.pyc".format(*path[:-3].rsplit("/", 1)) not in files]
    # What is no module: sources of other Pythons, and templates.
    assert len(bare) < len(sources) / 100, bare[:20]


def test_apt_knows_the_sources_of_its_suite(host):
    text = host.file("/etc/apt/sources.list.d/debian.sources").content_string
    suites = [line for line in text.splitlines() if line.startswith("Suites:")]
    assert suites == ["Suites: trixie trixie-updates", "Suites: trixie-security"]
    assert text.count("Components: main\n") == 2
    assert not host.file("/etc/apt/sources.list").exists


def test_apt_and_dpkg_find_nothing_broken(idle):
    root = ["--user", "0:0"]
    containers.execute(idle, "apt-get", "check", options=root)
    assert containers.execute(idle, "dpkg", "--audit", options=root).stdout == ""


def test_https_trusts_debians_certificates(host):
    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(host.check_output(f"python -c '{count}'")) > 100
