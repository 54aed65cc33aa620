"""Lines: everybody gets their turn in the order in which they came, and who leaves holds nobody up."""

import asyncio

import pytest

from gatescope.server.serving.keyed_lock import Lines


def run(scenario):
    """`await scenario(lines)`, after which nobody may stand in a line."""

    async def main():
        lines = Lines()
        result = await scenario(lines)
        assert lines._waiting == {}
        return result

    return asyncio.run(main())


async def standing(lines, *names, taken, line="a"):
    """Tasks that wait for their turn, note their name in `taken`, and give the turn on."""

    async def stand(name):
        await lines.wait(line)
        taken.append(name)
        await asyncio.sleep(0)
        lines.leave(line)

    tasks = [asyncio.create_task(stand(name)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_a_turn_that_nobody_has_is_taken_at_once_and_once():
    async def scenario(lines):
        assert lines.take("a")
        assert not lines.take("a")
        assert lines.take("b")
        lines.leave("a")
        assert lines.take("a")
        lines.leave("a")
        lines.leave("b")

    run(scenario)


def test_turns_come_in_the_order_of_arrival():
    async def scenario(lines):
        taken = []
        lines.take("a")
        tasks = await standing(lines, *range(20), taken=taken)
        assert (taken, lines.length("a")) == ([], 20)
        lines.leave("a")
        await asyncio.gather(*tasks)
        return taken

    assert run(scenario) == list(range(20))


def test_lines_of_other_names_do_not_wait():
    async def scenario(lines):
        taken = []
        lines.take("a")
        (first,) = await standing(lines, "first", taken=taken)
        await asyncio.gather(*await standing(lines, "other", taken=taken, line="b"))
        assert taken == ["other"]
        lines.leave("a")
        await first
        return taken

    assert run(scenario) == ["other", "first"]


def test_nobody_takes_the_turn_of_who_has_been_given_it_and_does_not_know_yet():
    async def scenario(lines):
        taken = []
        lines.take("a")
        tasks = await standing(lines, 1, 2, taken=taken)
        lines.leave("a")
        assert not lines.take("a")
        tasks += await standing(lines, 3, taken=taken)
        await asyncio.gather(*tasks)
        return taken

    assert run(scenario) == [1, 2, 3]


@pytest.mark.parametrize("departed", [[0], [1], [3], [0, 1], [1, 2], [0, 1, 2, 3]])
def test_who_leaves_the_line_is_passed_over(departed):
    async def scenario(lines):
        taken = []
        lines.take("a")
        tasks = await standing(lines, *range(4), taken=taken)
        for index in departed:
            tasks[index].cancel()
        await asyncio.sleep(0)
        lines.leave("a")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ends] == [index in departed for index in range(4)]
        return taken

    assert run(scenario) == [index for index in range(4) if index not in departed]


def test_who_is_cancelled_when_the_turn_has_just_come_gives_it_on():
    async def scenario(lines):
        taken = []
        lines.take("a")
        tasks = await standing(lines, *range(3), taken=taken)
        lines.leave("a")  # it is the first one's now
        tasks[0].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        return taken

    assert run(scenario) == [1, 2]


def test_who_is_cancelled_as_the_last_leaves_the_line_free():
    async def scenario(lines):
        lines.take("a")
        (task,) = await standing(lines, 0, taken=[])
        lines.leave("a")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert lines.take("a")
        lines.leave("a")

    run(scenario)


def test_who_is_cancelled_together_with_the_one_before_gives_the_turn_on_all_the_same():
    async def scenario(lines):
        taken = []
        lines.take("a")
        tasks = await standing(lines, *range(3), taken=taken)
        lines.leave("a")
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return taken

    assert run(scenario) == [2]


def test_a_line_that_nobody_stands_in_has_no_length():
    assert Lines().length("a") == 0


def test_who_has_left_is_not_counted():
    async def scenario(lines):
        assert lines.take("a")
        waiting = [asyncio.create_task(lines.wait("a")) for _ in range(64)]
        await asyncio.sleep(0)
        assert lines.length("a") == 64
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert lines.length("a") == 0
        lines.leave("a")

    run(scenario)
