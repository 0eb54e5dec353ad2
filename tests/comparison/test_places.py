import pytest
import torch

from rasengan_xl.comparison import places
from rasengan_xl.comparison.places import ThisMachine
from rasengan_xl.comparison.stopping import Stop
from rasengan_xl.errors import DeviceError


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs and cores, on which nothing is set."""

    def have(gpus, cores=8, **environment):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(places, "_cores", lambda: cores)
        for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return have


def test_without_a_gpu_one_run_goes_on_with_every_core(machine):
    machine(gpus=0)
    place = ThisMachine()
    assert place.slots == 1
    assert place.environment(0) == {}


def test_runs_side_by_side_on_a_cpu_share_its_cores_out(machine):
    machine(gpus=0, cores=8)
    place = ThisMachine(jobs=3)
    assert place.slots == 3
    assert [place.environment(slot) for slot in range(3)] == [{"OMP_NUM_THREADS": "2"}] * 3


def test_more_runs_than_cores_have_one_thread_each(machine):
    machine(gpus=0, cores=2)
    assert ThisMachine(jobs=3).environment(2) == {"OMP_NUM_THREADS": "1"}


def test_a_number_of_threads_that_the_user_has_set_stands(machine):
    machine(gpus=0, OMP_NUM_THREADS="5")
    assert ThisMachine(jobs=2).environment(0) == {}


def test_each_gpu_has_a_slot_that_sees_no_other(machine):
    machine(gpus=2)
    place = ThisMachine()
    assert place.slots == 2
    assert [place.environment(slot) for slot in range(2)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    assert "2 GPUs" in place.describe()


def test_gpus_that_were_handed_out_keep_their_names(machine):
    machine(gpus=2, CUDA_VISIBLE_DEVICES="5, GPU-8932f937")
    place = ThisMachine()
    assert [place.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == [
        "5",
        "GPU-8932f937",
    ]


def test_fewer_jobs_than_gpus_leave_the_last_ones_alone(machine):
    machine(gpus=4)
    assert ThisMachine(jobs=2).slots == 2


def test_two_runs_on_one_gpu_are_refused(machine):
    machine(gpus=1)
    with pytest.raises(DeviceError, match="--jobs 2: there are only 1 GPU"):
        ThisMachine(jobs=2)


def test_no_job_at_all_is_refused(machine):
    machine(gpus=0)
    with pytest.raises(DeviceError, match="--jobs 0"):
        ThisMachine(jobs=0)


def test_gpus_count_for_nothing_where_the_runs_compute_on_the_cpu(machine):
    machine(gpus=2)
    place = ThisMachine(jobs=4, device="cpu")
    assert place.slots == 4
    assert place.environment(0) == {"OMP_NUM_THREADS": "2"}


def test_a_worker_is_given_its_share_of_the_machine(machine, stand_in, train, tmp_path):
    machine(gpus=2)
    stand_in(f"echo $CUDA_VISIBLE_DEVICES >{tmp_path}/seen")
    list(ThisMachine().carry_out(train("a"), 1, None, Stop()))
    assert (tmp_path / "seen").read_text() == "1\n"


def test_looking_for_gpus_makes_no_cuda_context():
    ThisMachine()
    assert not torch.cuda.is_initialized()
