"""Where the services of compose.yaml write what may be large."""

import pytest

from producer.control.rows import MOST_MANIFEST_BYTES
from tests.unit.test_compose import dockerfile, service


@pytest.mark.parametrize("name", ["control", "operator"])
def test_what_may_be_large_is_written_to_a_disk(name: str) -> None:
    """Manifests and exports: a tmpfs is the container's memory. The image has the place for it."""
    directory = service(name)["environment"]["TMPDIR"]
    assert directory in {mount.split(":")[1] for mount in service(name)["volumes"]}
    assert directory not in {mount.partition(":")[0] for mount in service(name)["tmpfs"]}
    made = [
        words for _, rest in dockerfile() for words in rest.split("&&") if "--owner=emo" in words
    ]
    assert directory in made[0].split()


def test_control_has_memory_for_the_longest_manifest() -> None:
    """It comes there before it is on the disk."""
    gigabytes = int(service("control")["mem_limit"].removesuffix("g"))
    assert gigabytes * 1024**3 >= MOST_MANIFEST_BYTES + 512 * 1024**2
