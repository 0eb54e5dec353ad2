from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.plan import plan_runs
from rasengan_xl.planning.known_costs import KnownCost, recall_cost, remember_cost


def test_runs_of_one_seed_come_together_so_that_all_arms_grow_alike(comparison, folder):
    settings = comparison({"lora": {}, "dora": {"adapter": {"decompose": True}}}, seeds=[5, 6])
    planned = plan_runs(settings, folder)
    assert [(run.arm, run.seed, run.state) for run in planned] == [
        ("lora", 5, "new"),
        ("dora", 5, "new"),
        ("lora", 6, "new"),
        ("dora", 6, "new"),
    ]
    assert [run.settings.seed for run in planned] == [5, 5, 6, 6]


def test_what_a_run_took_foretells_the_next_one_like_it(comparison, folder, place):
    settings = comparison({"lora": {"training": {"weight_decay": 0.0123}}}, seeds=[0, 1])
    assert plan_runs(settings, folder)[0].predicted_seconds is None
    first = settings.model_copy(update={"seeds": (0,)})
    list(run_comparison(first, folder.root, place=place))
    done, new = plan_runs(settings, folder)
    assert (done.state, done.predicted_seconds) == ("finished", 0.0)
    assert new.predicted_seconds > 0
    assert new.known.peak_memory_gib > 0


def test_a_begun_run_has_less_left(comparison, folder, place, stop_after_two_steps):
    settings = comparison({"lora": {"training": {"save_every": 1, "weight_decay": 0.0124}}})
    remember_cost(
        settings.arms["lora"],
        KnownCost(
            seconds=8.0, peak_memory_gib=1.0, memory_kind="process resident", device_name="cpu"
        ),
    )
    stop_after_two_steps(settings, folder, place)
    (run,) = plan_runs(settings, folder)
    assert (run.state, run.steps_done) == ("begun", 2)
    assert run.predicted_seconds == 4.0


def test_a_cost_is_known_by_all_that_a_run_depends_on_but_its_seed(settings):
    cost = KnownCost(
        seconds=8.0, peak_memory_gib=1.0, memory_kind="process resident", device_name="cpu"
    )
    remember_cost(settings(training={"weight_decay": 0.0125}), cost)
    assert recall_cost(settings(training={"weight_decay": 0.0125}, seed=99)) == cost
    assert recall_cost(settings(training={"weight_decay": 0.0126})) is None
