"""The build stages that are an image's layers, told from the Dockerfiles that it is made from."""

from types import SimpleNamespace

import pytest

from scripts import source

FILES = "COPY --link --from=files /out /\n"
BASE = f"FROM scratch\nCOPY --link --from=bootstrapped /out /\n{FILES}"

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize(("files", "stages"), [
    ({"top": f"FROM base\n{FILES}", "base": BASE},
     ["base/bootstrapped", "base/files", "top/files"]),
    ({"top": f"FROM base AS one\n{FILES}FROM one\nCOPY --link --from=two /out /\n", "base": BASE},
     ["base/bootstrapped", "base/files", "top/files", "top/two"]),
    ({"top": f"FROM base AS base\n{FILES}FROM base\n", "base": BASE},
     ["base/bootstrapped", "base/files", "top/files"]),
    ({"top": f"FROM base AS base\n{FILES}", "base": BASE},
     ["base/bootstrapped", "base/files", "top/files"]),
    ({"top": f"FROM b AS a\nFROM a AS b\n{FILES}"}, []),
    ({"top": f"FROM base\n{FILES}", "base": f"FROM top\n{FILES}"}, []),
    ({"top": f"FROM top\n{FILES}"}, []),
    ({"top": f"{FILES}FROM scratch\n"}, []),
    ({"top": f"FROM elsewhere:1\n{FILES}"}, []), ({"top": ""}, []), ({}, []),
])
def test_stages_are_named_from_the_lowest_up(files, stages):
    assert source.stages_in(files.get, "top", "cpu") == stages


@pytest.mark.parametrize("title", ["hothouse/\0", "hothouse/\ud800", "hothouse/..", ""])
def test_a_title_that_names_no_image_has_no_stages(title):
    image = SimpleNamespace(labels={source.REVISION: "a" * 40, source.TITLE: title})
    assert source.stages(image, "cpu") == []
