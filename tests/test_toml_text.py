"""What is written as TOML is read as the same data, and a configuration as the same configuration."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.storage import Store
from ltx_ray.toml_text import to_toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_data_comes_back(tree: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(tree)) == tree


def test_a_configuration_comes_back_as_it_was_set(tmp_path: Path, s3_out: str) -> None:
    config = RenderConfig.load(
        None,
        (
            'model.lora=[{path="a\\"b", weight=0.5}, "c.safetensors"]',
            "sampling.sigmas=[1.0, 0.5, 1e-5]",
            "pools.gpu_shares.decode=0.25",
            'inputs.private_networks=["10.0.0.0/8"]',
            "reproducible=false",
            "defaults.negative_prompt=blau, 犬",
        ),
    )
    text = config.as_toml()
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    assert RenderConfig.load(str(path)) == config
    assert "tile_bytes" not in text, "only what was set"
    assert RenderConfig().as_toml() == ""
    Store(s3_out).write("run.toml", text.encode())
    assert RenderConfig.load(f"{s3_out}/run.toml") == config
    with pytest.raises(ConfigError, match=r"readable TOML file, got s3://.*none\.toml: no such file"):
        RenderConfig.load(f"{s3_out}/none.toml")
