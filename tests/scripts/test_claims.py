"""The page of the paper's claims agrees with the committed figures that it is written from."""

from __future__ import annotations

from pathlib import Path

from hrm_gym.scripts.experiments import claims

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_figures_give(tmp_path: Path) -> None:
    out = tmp_path / "claims.md"
    assert claims.main(["--results", str(DOCS / "results"), "--out", str(out)]) == 0
    assert out.read_text() == (DOCS / "claims.md").read_text(), "run python -m hrm_gym.scripts.experiments.claims"


def test_one_training_shows_no_method_to_be_better() -> None:
    for claim in claims.CLAIMS:
        assert claim.verdict in (claims.SHOWN, claims.WEAKLY, claims.NOT)
        compares = claim.file.startswith(("depth/", "versus/"))
        assert not compares or claim.trainings >= 5 or claim.verdict != claims.SHOWN, claim.claim
