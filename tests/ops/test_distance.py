"""Who gets nothing because others are nearer, by what callers' Envoys say."""

from hybridmesh.ops.distance import passed_over

VM = "outbound|8080|vm|echo.demo.svc.cluster.local"


def page(**endpoints: tuple[int | str, str]) -> str:
    """One caller's, as Envoy writes it."""
    return "".join(
        f"{VM}::default_priority::max_connections::100\n"
        f"{VM}::192.0.2.{name[1:]}:8080::health_flags::{health}\n"
        f"{VM}::192.0.2.{name[1:]}:8080::region::lab\n"
        f"{VM}::192.0.2.{name[1:]}:8080::priority::{priority}\n"
        for name, (priority, health) in endpoints.items()
    )


def test_without_localities_nobody_is_passed_over() -> None:
    assert passed_over([page(a1=(0, "healthy"), a2=(0, "healthy"))]) == {}
    assert passed_over([]) == {}
    assert passed_over([""]) == {}


def test_whom_every_caller_has_behind_others_gets_nothing() -> None:
    near, far = (0, "healthy"), (1, "healthy")
    assert passed_over([page(a1=near, a2=far), page(a1=near, a2=far)]) == {VM: ["192.0.2.2:8080"]}
    assert passed_over([page(a1=near, a2=far), page(a1=far, a2=near)]) == {}, "each has its callers"


def test_who_is_behind_others_that_are_not_well_has_their_requests() -> None:
    assert passed_over([page(a1=(0, "/failed_eds_health"), a2=(1, "healthy"))]) == {}
    assert passed_over([page(a1=(0, "/failed_eds_health"), a2=(1, "healthy"), a3=(2, "healthy"))]) == {
        VM: ["192.0.2.3:8080"]
    }


def test_who_is_behind_too_few_that_are_well_has_a_share() -> None:
    """Envoy takes a priority for well while healthy endpoints times 1.4 are not fewer than all."""
    well, unwell, far = (0, "healthy"), (0, "/failed_outlier_check"), (1, "healthy")
    assert passed_over([page(a1=well, a2=unwell, a3=far)]) == {}, "70 percent, and the rest for who is behind"
    five_of_seven = page(a1=well, a2=well, a3=well, a4=well, a5=well, a6=unwell, a7=unwell, a8=far)
    assert passed_over([five_of_seven]) == {VM: ["192.0.2.8:8080"]}
    five_of_eight = page(a1=well, a2=well, a3=well, a4=well, a5=well, a6=unwell, a7=unwell, a8=unwell, a9=far)
    assert passed_over([five_of_eight]) == {}


def test_priorities_before_one_bear_together() -> None:
    half = {"a1": (0, "healthy"), "a2": (0, "/failed_outlier_check")}
    next_half = {"a3": (1, "healthy"), "a4": (1, "/failed_outlier_check")}
    assert passed_over([page(**half, **next_half, a5=(2, "healthy"))]) == {VM: ["192.0.2.5:8080"]}
    fifth = {f"a{n}": (0, "healthy" if n == 1 else "/failed_outlier_check") for n in range(1, 6)}
    assert passed_over([page(**fifth, a6=(1, "/failed_outlier_check"), a7=(2, "healthy"))]) == {}


def test_clusters_of_its_own_and_of_the_inside_are_left_out() -> None:
    inside = "inbound|8080||::127.0.0.1:8080::priority::1\nxds-grpc::./etc/istio/proxy/XDS::priority::1\n"
    assert passed_over([inside]) == {}


def test_what_is_no_priority_is_none() -> None:
    assert passed_over([page(a1=(0, "healthy"), a2=("?", "healthy"), a3=("9" * 5000, "healthy"))]) == {}
