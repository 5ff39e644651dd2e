#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of measurements: ratios, bars, what counts; without a machine."""

import dataclasses
import importlib.machinery
import importlib.util
import io
import os
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

sys.dont_write_bytecode = True

import devices  # noqa: E402
import images  # noqa: E402
import large  # noqa: E402
import loads  # noqa: E402
import plan  # noqa: E402
import tables  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def the_program():
    loader = importlib.machinery.SourceFileLoader("bench_run", str(HERE / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    loader.exec_module(module)
    return module


def counts(reads=0, sectors_read=0, writes=0, sectors_written=0, flushes=0):
    return {"reads": reads, "sectors_read": sectors_read, "writes": writes, "sectors_written": sectors_written, "flushes": flushes}


def record(cell, peer, snapshots, number=0, **values):
    return {"cell": cell, "peer": peer, "snapshots": snapshots, "round": number, "iops": 100.0, "mean_ns": 1000.0, "p50_ns": 900.0,
            "p99_ns": 2000.0, "writes": 10, "cpu_s": 1.0, "ios": {"origin": counts(), "store": counts(writes=2)}, "empty_segments": 0,
            "store_unsafe_writes": 0, "stall_ns": 1000.0, "memory_bytes": 0, "bitmap_bytes": 0, "iops_before": 100.0, **values}


def cell_named(name):
    return next(cell for cell in plan.CELLS if cell.name == name)


class Bars(unittest.TestCase):
    def test_each_bar_is_judged_by_what_its_cell_measures(self):
        """With records of all peers of all cells, none is left out."""
        program = the_program()
        records = [record(spec["cell"], spec["peer"], spec["snapshots"], spec["round"])
                   for group in program.groups_of(plan.CELLS, {cell.name: cell.delay_ns for cell in plan.CELLS}, 5, 1)
                   for spec in group["measurements"]]
        results = plan.Results(records)
        for bar in plan.BARS:
            with self.subTest(bar.name):
                self.assertIsNotNone(judged := bar.judge(results))
                self.assertEqual(judged["rounds"], 5)
        self.assertEqual(len({bar.name for bar in plan.BARS}), len(plan.BARS))

    def test_a_value_is_the_median_of_ratios_of_the_same_round(self):
        records = [record("c", plan.COW, 1, number, iops=iops) for number, iops in enumerate((30, 10, 40))]
        records += [record("c", plan.LINEAR, 0, number, iops=iops) for number, iops in enumerate((100, 100, 50))]
        results = plan.Results(records)
        bar = plan.Bar("b", (), lambda found: found.ratios("c", (plan.COW, 1), (plan.LINEAR, 0), plan.iops), at_least=0.3)
        judged = bar.judge(results)
        self.assertEqual((judged["value"], judged["min"], judged["max"], judged["pass"]), (0.3, 0.1, 0.8, True))

    def test_a_round_that_failed_for_one_of_them_has_no_ratio(self):
        results = plan.Results([record("c", plan.COW, 1), record("c", plan.COW, 1, 1), record("c", plan.LINEAR, 0, failed="wrong"),
                                record("c", plan.LINEAR, 0, 1, iops=200.0)])
        self.assertEqual(results.ratios("c", (plan.COW, 1), (plan.LINEAR, 0), plan.iops), [0.5])
        self.assertEqual(len(results.failed), 1)

    def test_most_and_least(self):
        results = plan.Results([record("c", plan.COW, 1)])

        def passes(value, **bar):
            return plan.Bar("b", (), lambda _: [value], **bar).judge(results)["pass"]
        self.assertTrue(passes(1.0, at_most=1))
        self.assertFalse(passes(1.01, at_most=1))
        self.assertTrue(passes(0.9, at_least=0.9))
        self.assertFalse(passes(0.89, at_least=0.9))
        self.assertTrue(passes(0, at_most=0))

    def test_what_was_not_measured_has_not_passed(self):
        judged = plan.Bar("b", (), lambda _: [], at_most=1).judge(plan.Results([]))
        self.assertEqual((judged["value"], judged["pass"], judged["rounds"]), (None, False, 0))

    def test_a_wrong_snapshot_in_one_round_is_enough(self):
        """However fast the others were."""
        bar = plan.Bar("b", (("c", plan.COW, 1), ("c", plan.LINEAR, 0)), lambda found: found.each("c", (plan.COW, 1), plan.iops),
                       at_least=1)
        right = [record("c", plan.COW, 1, number) for number in range(4)]

        def judged(*more):
            return bar.judge(plan.Results([*right, *more]))
        self.assertTrue(judged()["pass"])
        wrong = judged(record("c", plan.COW, 1, 4, failed="snap0 has changed"))
        self.assertEqual((wrong["value"], wrong["failed"], wrong["pass"]), (100, 1, False))
        self.assertFalse(judged(record("c", plan.LINEAR, 0, 4, failed="fio"))["pass"])
        self.assertTrue(judged(record("c", plan.THIN, 1, 4, failed="of somebody else"))["pass"])

    def test_bars_are_of_what_a_run_was_to_measure(self):
        program = the_program()
        cell = dataclasses.replace(cell_named("first-32"), peers={plan.LINEAR: [0], plan.COW: [1]})
        names = [bar["name"] for bar in program.judged_bars([cell], {"first-32": 4 * plan.MS}, plan.Results([]))]
        self.assertIn("first write, depth 32, 1 snapshots: throughput to linear", names)
        self.assertNotIn("first write, depth 32, 4 snapshots: throughput to linear", names)
        self.assertFalse([name for name in names if "dm-" in name])
        self.assertFalse([bar for bar in program.judged_bars([cell], {"first-32": 4 * plan.MS}, plan.Results([])) if bar["pass"]])

    def test_what_does_not_count_has_not_passed(self):
        judged = plan.Bar("b", (), lambda _: [1], at_most=1).judge(plan.Results([]), counts=False)
        self.assertEqual((judged["pass"], judged["counts"]), (False, False))

    def test_cells_of_a_family_are_compared_round_by_round(self):
        results = plan.Results([record("one", plan.COW, 1, 0, stall_ns=30), record("one", plan.COW, 1, 1, stall_ns=10),
                                record("two", plan.COW, 9, 1, stall_ns=20)])
        self.assertEqual(results.between(("one", plan.COW, 1), ("two", plan.COW, 9), plan.stall_ns), [0.5])


class Values(unittest.TestCase):
    def test_ios_and_bytes_of_a_write(self):
        measured = record("first-32", plan.COW, 1, writes=10, ios={
            "origin": counts(reads=10, sectors_read=80, writes=10, sectors_written=80, flushes=1),
            "store": counts(writes=2, sectors_written=96, flushes=2)})
        self.assertEqual(plan.per_write("origin", "reads")(measured), 1)
        self.assertEqual(plan.per_write("store", "writes")(measured), 0.2)
        self.assertEqual(plan.bytes_per_write(measured), (80 + 80 + 96) * 512 / 10)
        self.assertEqual(plan.origin_bytes_read(measured), 4096)
        self.assertEqual(plan.store_bytes_per_byte(measured), 1.2)
        self.assertEqual(plan.of_origins("bytes")(measured), 8)
        self.assertEqual(plan.of_others("bytes")(measured), 4.8)
        self.assertEqual(plan.flushes(measured), 0.3)
        self.assertEqual(plan.cpu_per_write(measured), 0.1)

    def test_origins_are_summed(self):
        measured = record("origins-4", plan.COW, 1, writes=10, ios={name: counts(reads=5) for name in ("origin", "origin1", "store")})
        self.assertEqual(plan.of_origins("reads")(measured), 1)
        self.assertEqual(plan.of_others("reads")(measured), 0.5)

    def test_memory_of_an_exception(self):
        measured = record("activate", plan.COW, 1, memory_bytes=20 * plan.MILLION + 512 * 1024, bitmap_bytes=512 * 1024)
        self.assertEqual(plan.memory_per_exception(measured), 20)

    def test_writes_while_a_snapshot_is_deleted(self):
        self.assertEqual(plan.to_before(record("delete", plan.COW, 64, iops=80.0, iops_before=100.0)), 0.8)

    def test_writes_that_are_not_durable_when_they_end(self):
        text = ("# event histogram\n{ rwbs: WFS     } hitcount:         12\n{ rwbs: WS      } hitcount:          3\n"
                "{ rwbs: FWFS    } hitcount:          1\n{ rwbs: FWS     } hitcount:          5\n"
                "{ rwbs: R       } hitcount:          7\n{ rwbs: FF      } hitcount:   2\n")
        kinds = loads.kinds_of(text)
        self.assertEqual(kinds, {"WFS": 12, "WS": 3, "FWFS": 1, "FWS": 5, "R": 7, "FF": 2})
        self.assertEqual(loads.unsafe_writes(kinds), 8)


class Counting(unittest.TestCase):
    def test_what_delay_and_limit_allow(self):
        self.assertEqual(cell_named("first-32").most_iops(4 * plan.MS), 8000)
        self.assertEqual(cell_named("origins-4").most_iops(4 * plan.MS), 32000)
        self.assertEqual(cell_named("fsync-1").most_iops(4 * plan.MS), 125)
        self.assertEqual(cell_named("limited-50").most_iops(0), 12800)
        self.assertEqual(cell_named("sequential-200").most_iops(0), 200)
        self.assertIsNone(cell_named("preserved").most_iops(0))

    def test_a_cell_counts_when_the_plain_device_reaches_its_limit(self):
        cell = cell_named("first-32")

        def counted(*iops):
            records = [record("first-32", plan.LINEAR, 0, number, iops=value) for number, value in enumerate(iops)]
            return plan.Results(records).counts(cell, 4 * plan.MS)
        self.assertTrue(counted(7200.0))
        self.assertFalse(counted(7100.0))
        self.assertTrue(counted(7900.0, 100.0, 7900.0))
        self.assertFalse(counted())

    def test_each_cell_with_a_limit_has_the_plain_device(self):
        for cell in plan.CELLS:
            if cell.most_iops(cell.delay_ns):
                self.assertEqual(cell.peers.get(plan.LINEAR), [0], cell.name)
                self.assertIn(cell.quick and cell.quick.get(plan.LINEAR), ({}, [0]), cell.name)

    def test_the_plain_device_has_no_snapshots_to_work_on(self):
        for cell in plan.CELLS:
            spec = cell.measurement(0, plan.LINEAR, 0, 1)
            self.assertIn(spec["operation"], ("write", "plain"), cell.name)
            self.assertIsNone(spec["image"])

    def test_each_of_dm_snapshots_areas_has_room_for_all_of_the_origin(self):
        made = dict(delay_ns=0, cache=False, mbps=0, together=False, origins=1, store_mib=0, areas=32)
        with unittest.mock.patch.object(devices, "NullDevice", lambda *_, **__: unittest.mock.Mock(sectors=0, path="")), \
                unittest.mock.patch.object(devices, "fill"):
            store_mib = devices.Devices(64, **made).store_mib
        # peers.py rounds down to a MiB; a block for each, one for each 256, and a header
        self.assertGreaterEqual(store_mib // 32 * plan.KIB * plan.KIB, (16384 + 16384 // 256 + 1) * devices.BLOCK)

    def test_calibration_is_small_and_has_the_plain_device_only(self):
        for cell in plan.CELLS:
            group = cell.calibration(cell.delay_ns)
            self.assertEqual(group["devices"]["origin_mib"], plan.CALIBRATION_MIB)
            self.assertEqual(group["devices"]["store_mib"], 0)
            self.assertEqual([spec["peer"] for spec in group["measurements"]], [plan.LINEAR])
            self.assertIsNone(group["measurements"][0]["image"])

    def test_cells_with_the_same_plain_device_have_the_same_calibration(self):
        one, other, another = (cell_named(name).calibration(4 * plan.MS) for name in ("first-32", "delete", "cached-32"))
        self.assertEqual(one, other)
        self.assertNotEqual(one, another)

    def test_a_delay_is_raised_to_what_the_machine_asks_for(self):
        cell = dataclasses.replace(cell_named("fast-16"), counted=False)
        # 16 at a time in 0.1 ms are 160,000 a second
        self.assertEqual(cell.raised({"iops": 80_000}, 100_000), 190_000)
        self.assertTrue(cell.is_limit({"iops": 80_000}, 190_000))
        self.assertEqual(dataclasses.replace(cell, counted=True).raised({"iops": 81_000}, 100_000), 180_000)

    def test_a_delay_is_raised_by_a_tenth_at_least_and_doubled_when_nothing_is_known(self):
        cell = dataclasses.replace(cell_named("fast-16"), counted=False)
        self.assertEqual(cell.raised({"iops": 151_000}, 100_000), 110_000)
        self.assertEqual(cell.raised({"failed": "fio"}, 100_000), 200_000)
        self.assertEqual(cell.raised({"iops": 0}, 100_000), 200_000)

    def test_a_delay_is_raised_by_no_more_than_is_missing_where_a_calibration_is_the_same_each_time(self):
        cell = cell_named("fast-16")
        self.assertTrue(cell.counted)
        # 80,000 a second would be all, 72,400 are enough
        self.assertEqual(cell.raised({"iops": 72_300}, 200_000), 210_000)
        self.assertEqual(cell.raised({"iops": 66_000}, 200_000), 220_000)


class Calibrations(unittest.TestCase):
    class Machine:
        """Reaches the limit from a delay on, of its kind."""
        ENOUGH_NS = {False: 4_500_000, True: 150_000}

        def __init__(self):
            self.asked = []

        def measure(self, groups, counted):
            self.asked.append((counted, [group["devices"]["delay_ns"] for group in groups]))
            return [{"iops": spec["depth"] / max(self.ENOUGH_NS[counted], group["devices"]["delay_ns"]) * 1e9}
                    for group in groups for spec in group["measurements"]]

    def test_each_cell_is_calibrated_in_the_kind_of_machine_that_it_is_measured_in(self):
        machine = self.Machine()
        cells = [cell_named(name) for name in ("first-32", "delete", "fast-16", "cpu")]
        delays = the_program().calibrated(machine, cells)
        # "delete" has the same plain device as "first-32", and "cpu" has no limit
        self.assertEqual(machine.asked[0], (False, [4_000_000]))
        self.assertIn((True, [100_000]), machine.asked)
        self.assertEqual(delays["first-32"], delays["delete"])
        self.assertTrue(4_000_000 < delays["first-32"] <= 4_500_000 / plan.CALIBRATED)
        self.assertTrue(100_000 < delays["fast-16"] <= 150_000)
        self.assertEqual(delays["cpu"], 0)


class Rounds(unittest.TestCase):
    def groups(self, *names):
        cells = [cell_named(name) for name in names]
        return list(the_program().groups_of(cells, {cell.name: cell.delay_ns for cell in cells}, 3, 1))

    def test_each_round_has_each_peer_with_the_same_choices(self):
        specs = self.groups("first-32")[0]["measurements"]
        for number in range(3):
            of_round = [spec for spec in specs if spec["round"] == number]
            self.assertEqual(len(of_round), 13)
            self.assertEqual(len({(spec["peer"], spec["snapshots"]) for spec in of_round}), 13)
            self.assertEqual(len({spec["seed"] for spec in of_round}), 1)

    def test_cells_of_a_family_take_turns(self):
        order = [(spec["cell"], spec["round"]) for group in self.groups("read-oldest", "read-newest") for spec in group["measurements"]]
        self.assertEqual(order, [(f"read-{which}", number) for number in range(3) for which in ("oldest", "newest")])


class Logs(unittest.TestCase):
    def background(self, *lines):
        background = loads.Background.__new__(loads.Background)
        background.writes = [loads.Write(line) for line in lines]
        return background

    def test_the_longest_of_those_that_were_under_way(self):
        background = self.background("10000, 500000000, 1, 4096, 0, 0", "10400, 20000000, 1, 4096, 8192, 0",
                                     "12000, 900000000, 1, 4096, 0, 0")
        self.assertAlmostEqual(background.longest(9.9, 10.1), 0.5)
        self.assertAlmostEqual(background.longest(10.2, 10.5), 0.02)
        self.assertAlmostEqual(background.longest(11.2, 11.3), 0.9)
        self.assertEqual(background.longest(10.5, 11.0), 0)

    def test_rate(self):
        self.assertEqual(self.background(*(f"{10000 + i * 100}, 1000000, 1, 4096, 0, 0" for i in range(10))).rate(10.0, 10.5), 10)


class Images(unittest.TestCase):
    def test_what_is_packed_is_what_is_no_hole(self):
        with tempfile.TemporaryDirectory() as directory:
            image, packed = pathlib.Path(directory) / "image", pathlib.Path(directory) / "packed"
            with open(image, "wb") as file:
                os.truncate(file.fileno(), 1 << 24)
                for offset in (0, 1 << 20, (1 << 24) - 4096):
                    os.pwrite(file.fileno(), offset.to_bytes(8, "little") + b"x" * 4088, offset)
            images.pack(image, packed)
            self.assertEqual(self.unpacked(packed.read_bytes(), 1 << 24), image.read_bytes())
            self.assertLess(packed.stat().st_size, 1 << 20)

    def unpacked(self, packed, size):
        contents = bytearray(size)
        source = io.BytesIO(packed)
        while head := source.read(devices.EXTENT.size):
            offset, length = devices.EXTENT.unpack(head)
            contents[offset:offset + length] = source.read(length)
        return bytes(contents)

    def test_stamps(self):
        self.assertEqual(large.contents_of(1023)[:16], (1024).to_bytes(8, "little") * 2)
        self.assertEqual(len(large.contents_of(0)), devices.BLOCK)


class Text(unittest.TestCase):
    def test_numbers_have_three_digits(self):
        self.assertEqual([tables.number(value) for value in (0, 0.01234, 1.2345, 123.45, 12345)], ["0", "0.0123", "1.23", "123", "12345"])

    def test_a_table_says_what_is_missed_and_what_does_not_count(self):
        bar = {"name": "b", "value": 1.5, "min": 1, "max": 2, "bar": 1, "at": "most", "pass": False, "counts": True, "failed": 0,
               "devices": "4 ms a command"}
        lines = tables.markdown([bar, {**bar, "counts": False}, {**bar, "pass": True}, {**bar, "failed": 1}]).splitlines()
        self.assertEqual(lines[2], "| b | 4 ms a command | 1.50 (1.00 to 2.00) | at most 1.00, **missed** |")
        self.assertEqual([line.count("missed") for line in lines[2:]], [1, 0, 0, 0])
        self.assertIn("does not count", lines[3])
        self.assertIn("failed", lines[5])


if __name__ == "__main__":
    unittest.main()
