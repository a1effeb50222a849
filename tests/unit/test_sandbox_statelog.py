import pytest

from deploy.sandbox.statelog import StateFileError, StateLog

HEADER = {"records": 5, "seed": 1}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "folder" / "state.jsonl"
    log = StateLog(path)
    assert list(log.replay(HEADER)) == []
    log.append(b'{"n":1}')
    log.append(b'{"n":2}')
    log.close()
    return path


def replayed(path, header=HEADER):
    log = StateLog(path)
    try:
        return list(log.replay(header))
    finally:
        log.close()


def test_lines_come_back_in_order(path):
    assert replayed(path) == [{"n": 1}, {"n": 2}]


def test_a_torn_last_line_is_dropped_for_good(path):
    path.write_bytes(path.read_bytes() + b'{"n":')
    assert replayed(path) == [{"n": 1}, {"n": 2}]
    assert path.read_bytes().endswith(b'{"n":2}\n')


def test_a_damaged_line_in_the_middle_is_an_error(path):
    path.write_bytes(path.read_bytes() + b'{"n":\n{"n":3}\n')
    with pytest.raises(StateFileError, match="line 4"):
        replayed(path)


def test_another_header_starts_over(path):
    assert replayed(path, {"records": 6, "seed": 1}) == []
    assert replayed(path) == []


def test_the_file_is_its_owners_and_one_sandbox_has_it(path):
    log = StateLog(path)
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(StateFileError, match="in use"):
        StateLog(path)
    log.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateFileError, match="cannot be opened"):
        StateLog(tmp_path / "file" / "state.jsonl")


def test_without_a_path_nothing_is_kept():
    log = StateLog(None)
    log.append(b"{}")
    assert (list(log.replay(HEADER)), log.is_kept) == ([], False)
