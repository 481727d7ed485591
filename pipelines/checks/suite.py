"""The Great Expectations suites, one a table: the rules of a day over one metrics row a tenant, in one run."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import polars as pl

from pipelines.checks.rules import RULES, Rule


def validate(metrics: pl.DataFrame, rules: Sequence[Rule] = RULES) -> dict[str, list[str]]:
    """Validate one metrics row a tenant; return, for every tenant, the rules that it breaks (none: it passed).

    Args:
        metrics: `tenant`, and one integer column a rule; further columns are left alone. A null is a metric that could
            not be computed, and breaks its rule.
        rules: a day's own, or those of its rollups.
    """
    broken: dict[str, list[str]] = {tenant: [] for tenant in metrics["tenant"]}
    if metrics.is_empty():
        return broken
    for result in _run(metrics, rules):
        if result.success:
            continue
        metric = result.expectation_config.kwargs["column"]
        if result.exception_info and "unexpected_index_list" not in (result.result or {}):
            raise RuntimeError(f"the rule {metric} could not be evaluated")
        for row in result.result["unexpected_index_list"]:
            broken[row["tenant"]].append(metric)
    return {tenant: sorted(set(found)) for tenant, found in broken.items()}


def _run(metrics: pl.DataFrame, rules: Sequence[Rule]) -> list[Any]:
    # The library asks these when it is imported, which takes seconds: never at module level.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own imports', none of our business
        import great_expectations as gx
        from great_expectations import expectations
        from great_expectations.data_context.types import base

    # Without a docs site of its own: it would leave a temporary folder behind at every run.
    stores = base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    configuration = base.DataContextConfig(
        store_backend_defaults=stores,
        analytics_enabled=False,
        progress_bars=base.ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=configuration)
    expect: Any = expectations
    asset = context.data_sources.add_pandas("metrics").add_dataframe_asset("tenants")
    whole = asset.add_batch_definition_whole_dataframe("day")
    frame = metrics.select("tenant", *(rule.metric for rule in rules)).to_pandas()
    results: list[Any] = []
    for table in dict.fromkeys(rule.table for rule in rules):
        expected: list[Any] = []
        for rule in rules:
            if rule.table == table:
                between = {"column": rule.metric, "min_value": 0, "max_value": 0, "notes": rule.why}
                expected.append(expect.ExpectColumnValuesToBeBetween(**between))
                expected.append(expect.ExpectColumnValuesToNotBeNull(column=rule.metric))
        suite = context.suites.add(gx.ExpectationSuite(name=table, expectations=expected))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=whole, suite=suite))
        outcome = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["tenant"]},
        )
        results += outcome.results
    return results
