from rasengan_xl.report.facts import list_dataset_facts, list_machine_facts


def test_what_was_left_out_is_counted_with_its_reason(make_comparison):
    dataset = make_comparison().dataset
    assert list_dataset_facts(dataset)["pictures left out"] == "2 unreadable"
    none = dataset.model_copy(update={"skipped": {"unreadable": 0}})
    assert list_dataset_facts(none)["pictures left out"] == "0"


def test_all_that_was_found_is_accounted_for(make_comparison):
    dataset = make_comparison().dataset.model_copy(update={"ignored_files": {".psd": 3}})
    facts = list_dataset_facts(dataset)
    assert facts["pictures found"] == "1,223"
    assert facts["other files ignored"] == "3 .psd"


def test_a_processor_has_no_device_memory(make_comparison):
    machine = make_comparison().machine
    assert list_machine_facts(machine)["device memory"] == "14.6 GiB"
    processor = machine.model_copy(update={"device_memory_gib": None})
    assert "device memory" not in list_machine_facts(processor)


def test_a_missing_commit_is_said_to_be_missing(make_comparison):
    assert list_machine_facts(make_comparison().machine)["commit of the code"] == (
        "not run from a checkout"
    )
