"""A cancel and the work of the moment may be committed at once: they take turns, in files of their own."""

import asyncio
from pathlib import Path

from ltx_ray.ledger.ledger import Ledger, read_records
from ltx_ray.ledger.records import CancelRecord
from ltx_ray.storage import Store


def test_commits_at_one_moment_take_turns(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names = [f"s{number}" for number in range(20)]

    async def main() -> None:
        ledger, _ = Ledger.open(store)
        await asyncio.gather(*(ledger.commit([CancelRecord(shots=(name,))]) for name in names))

    asyncio.run(main())
    told = [record.shots[0] for record in read_records(store) if isinstance(record, CancelRecord)]
    assert sorted(told) == sorted(names)
