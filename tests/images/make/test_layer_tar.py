import io
import itertools
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from images.make.content import file_content
from images.make.layer_tar import gather, layer_tar, tar_size
from images.make.plan import LayerPlan

BLOCK = 1 << 19
GIB = 1 << 30


@settings(max_examples=40)
@given(
    st.one_of(st.integers(0, 3 * BLOCK), st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1])),
    st.integers(1, 20),
    st.integers(0, 1000),
)
def test_a_layer_is_a_tar_of_its_files(size: int, files: int, first: int) -> None:
    plan = LayerPlan(seed="t", size=size, files=files, first_file=first)
    raw = b"".join(layer_tar(plan))
    assert len(raw) == tar_size(plan)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = [member for member in tar if member.isfile()]
        assert [m.name for m in members] == [f"pull-study/{first + n:08d}" for n in range(files)]
        assert sum(m.size for m in members) == size
        last = tar.extractfile(members[-1])
        assert last is not None
        number, length = first + files - 1, plan.file_sizes()[-1]
        assert last.read() == b"".join(file_content("t", number, length, 0.5))


@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_gathering_keeps_the_bytes(pieces: list[bytes], least: int) -> None:
    blocks = list(gather(pieces, least))
    assert b"".join(blocks) == b"".join(pieces)
    assert all(len(block) >= least for block in blocks[:-1])
    assert all(blocks)


def test_a_file_beyond_8_gib_has_a_header_that_tar_reads() -> None:
    plan = LayerPlan(seed="big", size=9 * GIB)
    head = b"".join(itertools.islice(layer_tar(plan), 3))
    with tarfile.open(fileobj=io.BytesIO(head), mode="r|") as tar:
        folder, file = tar.next(), tar.next()
    assert folder is not None
    assert file is not None
    assert (file.name, file.size) == ("pull-study/00000000", 9 * GIB)
