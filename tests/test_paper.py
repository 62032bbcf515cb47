"""The paper's tables, against what its own text says of them (section 4)."""

from unet_np.paper import TABLE_1, TABLE_2


def test_table_1_is_sorted_by_warping_error_and_u_net_leads() -> None:
    ranked = [row for row in TABLE_1 if row.rank]
    assert [row.rank for row in ranked] == [1, 2, 3, 4, 10]
    assert ranked == sorted(ranked, key=lambda row: row.warping)
    # "a warping error of 0.0003529 (the new best score, see Table 1) and a rand-error of 0.0382"
    assert round(0.0003529, 6) == ranked[0].warping
    assert (ranked[0].name, ranked[0].rand) == ("u-net", 0.0382)


def test_table_2_agrees_with_the_text() -> None:
    rows = {row.name: row for row in TABLE_2}
    # "an average IOU of 92%, [...] the second best algorithm with 83%"; "77.5%" and "46%"
    assert f"{rows['u-net (2015)'].u373:.0%}" == "92%"
    assert rows["second-best 2015"].u373 == 0.83
    assert abs(rows["u-net (2015)"].hela - 0.775) < 0.001
    assert rows["second-best 2015"].hela == 0.46
