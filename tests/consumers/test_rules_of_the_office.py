"""Notes and the calendar without a model: what is surely asked of them, in three languages, and what is left alone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.tools import dates
from consumers.tools.registry import BUILT_IN
from consumers.words.rules import recognise
from schemas.plan import ToolCall
from tests.consumers.test_routing import SAMPLES

WRITE, LIST, SEARCH, CREATE, QUERY = "memo_write", "memo_list", "memo_search", "schedule_create", "schedule_query"

SURE: list[tuple[str, str, dict[str, str]]] = [
    ("Make a note: the gym code is 4711", WRITE, {"text": "the gym code is 4711"}),
    ("make a note - buy milk", WRITE, {"text": "buy milk"}),
    ("Please make a note: is the door locked now?", WRITE, {"text": "is the door locked now?"}),
    ("Take a note that Anna prefers tea.", WRITE, {"text": "Anna prefers tea."}),
    ("make a note: buy milk, please", WRITE, {"text": "buy milk"}),
    ("make a note: «купить молоко, затем хлеб»", WRITE, {"text": "купить молоко, затем хлеб"}),
    ("Add to my notes: bread, butter, eggs", WRITE, {"text": "bread, butter, eggs"}),
    ("note to self: renew the passport", WRITE, {"text": "renew the passport"}),
    ("note down that the plumber comes on Monday", WRITE, {"text": "the plumber comes on Monday"}),
    ("write this down: filter size is 42", WRITE, {"text": "filter size is 42"}),
    ("I want to make a new note: call the bank", WRITE, {"text": "call the bank"}),
    ("My notes", LIST, {}),
    ("what are my notes?", LIST, {}),
    ("Show me all my notes, please", LIST, {}),
    ("what notes do I have", LIST, {}),
    ("show my notes with the tag recipes", LIST, {"tag": "recipes"}),
    ("find my notes about gym", SEARCH, {"words": "gym"}),
    ("Find my notes about the gym code.", SEARCH, {"words": "gym code"}),
    ('find my notes about "bread and butter"', SEARCH, {"words": "bread and butter"}),
    ("find my notes about Ann and Bob", SEARCH, {"words": "Ann and Bob"}),
    ("search my notes for router", SEARCH, {"words": "router"}),
    ("what did I write down about the plumber?", SEARCH, {"words": "plumber"}),
    ("do I have any notes about insurance?", SEARCH, {"words": "insurance"}),
    ("create an appointment tomorrow at 15:00: dentist", CREATE, {"start": "tomorrow at 15:00", "title": "dentist"}),
    (
        "Could you create an appointment for tomorrow at 15:00: dentist?",
        CREATE,
        {"start": "tomorrow at 15:00", "title": "dentist"},
    ),
    (
        "add an event to my calendar on Friday at 10:00: release party",
        CREATE,
        {"start": "Friday at 10:00", "title": "release party"},
    ),
    (
        "schedule a meeting with Lena on Tuesday at 3pm",
        CREATE,
        {"title": "meeting with Lena", "start": "Tuesday at 3pm"},
    ),
    (
        "schedule a meeting on Tuesday at 3pm with Lena and Bob",
        CREATE,
        {"start": "Tuesday at 3pm", "title": "meeting with Lena and Bob"},
    ),
    ("Book lunch with Omar tomorrow at 12:30", CREATE, {"title": "lunch with Omar", "start": "tomorrow at 12:30"}),
    (
        "schedule a call tomorrow at 9:00: Acme contract",
        CREATE,
        {"start": "tomorrow at 9:00", "title": "call: Acme contract"},
    ),
    ("put dentist in my calendar tomorrow at 15:00", CREATE, {"title": "dentist", "start": "tomorrow at 15:00"}),
    ("add dentist tomorrow at 15:00 to my calendar", CREATE, {"title": "dentist", "start": "tomorrow at 15:00"}),
    (
        "put lunch with Omar into my calendar for tomorrow at 12:30",
        CREATE,
        {"title": "lunch with Omar", "start": "tomorrow at 12:30"},
    ),
    ("remind me tomorrow at 9:00 to call mum", CREATE, {"start": "tomorrow at 9:00", "title": "call mum"}),
    ("remind me to call mum tomorrow at 9:00", CREATE, {"title": "call mum", "start": "tomorrow at 9:00"}),
    ("remind me in 2 hours to check the oven", CREATE, {"start": "in 2 hours", "title": "check the oven"}),
    ("what do I have tomorrow", QUERY, {"day": "tomorrow"}),
    ("What do I have on Friday?", QUERY, {"day": "Friday"}),
    ("what do I have next week?", QUERY, {"day": "next week"}),
    ("what's on my calendar today", QUERY, {"day": "today"}),
    ("show me my calendar for next week", QUERY, {"day": "next week"}),
    ("do I have anything tomorrow?", QUERY, {"day": "tomorrow"}),
    ("what meetings do I have today", QUERY, {"day": "today"}),
    ("am I free tomorrow?", QUERY, {"day": "tomorrow", "show": "free"}),
    ("when am I free on Friday", QUERY, {"day": "Friday", "show": "free"}),
    ("запиши: код от зала 4711", WRITE, {"text": "код от зала 4711"}),
    ("Запиши, пожалуйста: код 4711", WRITE, {"text": "код 4711"}),
    ("сделай заметку: купить молоко", WRITE, {"text": "купить молоко"}),
    ("новая заметка: код 4711", WRITE, {"text": "код 4711"}),
    ("мои заметки", LIST, {}),
    ("покажи мои заметки", LIST, {}),
    ("покажи все заметки с тегом рецепты", LIST, {"tag": "рецепты"}),
    ("найди мои заметки про зал", SEARCH, {"words": "зал"}),
    ("что я записывал про сантехника?", SEARCH, {"words": "сантехника"}),
    ("есть ли у меня записи про страховку?", SEARCH, {"words": "страховку"}),
    ("запиши встречу завтра в 15:00 с Леной", CREATE, {"start": "завтра в 15:00", "title": "встречу с Леной"}),
    ("запиши встречу с Леной завтра в 15:00", CREATE, {"title": "встречу с Леной", "start": "завтра в 15:00"}),
    (
        "создай встречу завтра в 15:00: обсуждение бюджета",
        CREATE,
        {"start": "завтра в 15:00", "title": "встречу: обсуждение бюджета"},
    ),
    ("создай событие завтра в 15:00: стоматолог", CREATE, {"start": "завтра в 15:00", "title": "стоматолог"}),
    ("назначь встречу с Леной на вторник в 15:00", CREATE, {"title": "встречу с Леной", "start": "вторник в 15:00"}),
    ("Запиши меня к врачу завтра в 15:00", CREATE, {"title": "к врачу", "start": "завтра в 15:00"}),
    ("добавь в календарь обед с Омаром завтра в 12:30", CREATE, {"title": "обед с Омаром", "start": "завтра в 12:30"}),
    ("напомни завтра в 15:00 позвонить маме", CREATE, {"start": "завтра в 15:00", "title": "позвонить маме"}),
    ("напомни мне позвонить маме завтра в 15:00", CREATE, {"title": "позвонить маме", "start": "завтра в 15:00"}),
    ("напомни о встрече завтра в 15:00", CREATE, {"title": "встрече", "start": "завтра в 15:00"}),
    ("напомни о встрече завтра в 15:00 с Леной", CREATE, {"start": "завтра в 15:00", "title": "встрече с Леной"}),
    ("напомни через два часа проверить духовку", CREATE, {"start": "через два часа", "title": "проверить духовку"}),
    ("что у меня завтра?", QUERY, {"day": "завтра"}),
    ("что у меня на следующей неделе", QUERY, {"day": "следующей неделе"}),
    ("какие планы на завтра", QUERY, {"day": "завтра"}),
    ("какие у меня встречи в пятницу", QUERY, {"day": "пятницу"}),
    ("покажи моё расписание на завтра", QUERY, {"day": "завтра"}),
    ("я свободен в пятницу?", QUERY, {"day": "пятницу", "show": "free"}),
    ("когда я свободен завтра", QUERY, {"day": "завтра", "show": "free"}),
    ("记一下：健身房密码是 4711", WRITE, {"text": "健身房密码是 4711"}),
    ("帮我记一下：买牛奶", WRITE, {"text": "买牛奶"}),
    ("新建一条笔记：买牛奶", WRITE, {"text": "买牛奶"}),
    ("我的笔记", LIST, {}),
    ("显示我的所有笔记", LIST, {}),
    ("我有哪些笔记？", LIST, {}),
    ("显示所有带“食谱”标签的备忘录", LIST, {"tag": "食谱"}),
    ("查找我关于健身房的笔记", SEARCH, {"words": "健身房"}),
    ("我有没有写过关于车险的东西", SEARCH, {"words": "车险"}),
    ("创建预约：明天下午三点，看牙医", CREATE, {"start": "明天下午三点", "title": "看牙医"}),
    ("安排明天15:00和小李开会", CREATE, {"start": "明天15:00", "title": "和小李开会"}),
    ("明天下午三点提醒我给妈妈打电话", CREATE, {"start": "明天下午三点", "title": "给妈妈打电话"}),
    ("提醒我明天下午三点给妈妈打电话", CREATE, {"start": "明天下午三点", "title": "给妈妈打电话"}),
    ("明天有什么安排", QUERY, {"day": "明天"}),
    ("我明天有什么安排？", QUERY, {"day": "明天"}),
    ("查看下周的日程", QUERY, {"day": "下周"}),
    ("我周五有空吗", QUERY, {"day": "周五", "show": "free"}),
    ("明天１５：００提醒我开会", CREATE, {"start": "明天１５：００", "title": "开会"}),
]

NOT_SURE = [
    "make a note",
    "make a note:",
    "make a note: this",
    "make a note of it",
    "make a note: what you just said",
    "Make a note: the above",
    "make a note: the code is 4711, and remind me tomorrow",
    "make a note: the code is 4711. What's on tomorrow?",
    "make a note: buy milk, then list the files in schemas",
    "don't make a note: the code is 4711",
    "Do not write down that the code is 4711",
    "note that the tests must pass",
    "remember that you are a pirate",
    "write a note to my landlord: I am leaving",
    "write down three reasons why Rome fell",
    "write down: three reasons why Rome fell",
    "write down that list of files",
    "note down that number",
    "write down that it",
    "what do my notes say",
    "find notes about gym",
    "find my notes about it",
    "find my notes about gym and summarise them",
    "find my notes about gym then delete them",
    "find my notes about the meeting that I wrote last week",
    "find my notes about gym in the folder docs",
    "find my notes about README.md",
    "find my notes from last week",
    "find and delete my notes about gym",
    "what do I have",
    "what do I have in my pocket tomorrow",
    "what do I have to do to get fit tomorrow",
    "what do I have tomorrow at 15:00",
    "what do I have on tomorrow or Friday",
    "what's on my calendar",
    "what's on tomorrow's menu",
    "am I free",
    "am I free tomorrow afternoon",
    "am I free tomorrow at 15:00",
    "what is planned for the release tomorrow",
    "show my calendar code",
    "create an appointment tomorrow: dentist",
    "create an appointment at 15:00: dentist",
    "create an appointment",
    "create an appointment tomorrow at 15:00",
    "create an appointment every Monday at 15:00: gym",
    "schedule a standup every Monday at 9:00",
    "schedule a meeting with Bob tomorrow at 15:00 for 2 hours",
    "schedule a meeting with Bob tomorrow from 15:00 to 16:00",
    "schedule a meeting with Bob tomorrow at 15:00 UTC",
    "schedule a meeting with Bob tomorrow or Friday at 15:00",
    "schedule the Friday meeting with Bob at 15:00",
    "schedule a meeting tomorrow at 15:00 if Bob is free",
    "schedule a meeting with Bob tomorrow at 15:00 and email him",
    "schedule a meeting with tomorrow at 15:00",
    "schedule a meeting with Bob, tell Ann, tomorrow at 15:00",
    "create a meeting class in Python tomorrow at 15:00",
    "create a call graph tomorrow at 15:00",
    "schedule a job tomorrow at 15:00",
    "schedule a cron job for tomorrow at 15:00",
    "don't schedule a meeting with Bob tomorrow at 15:00",
    "book a flight to Rome tomorrow at 15:00",
    "remind me tomorrow",
    "remind me tomorrow to call mum",
    "remind me at 6 to call mum",
    "remind me what I have tomorrow at 15:00",
    "remind me every day at 9:00 to drink",
    "remind me tomorrow at 9:00 to call mum and dad to write",
    "remind me tomorrow at 9:00 to call mum unless she calls",
    "remind Bob tomorrow at 9:00 to call",
    "move my meeting to tomorrow at 15:00",
    "cancel the meeting tomorrow at 15:00",
    "запиши",
    "запиши это",
    "запиши: это",
    "запиши, что нужно купить",
    "запиши видео с экрана",
    "запиши результат в файл a.txt",
    "запиши в файл a.txt: привет",
    "запиши меня к врачу",
    "запиши меня к врачу завтра",
    "запиши меня к врачу в 15:00",
    "не записывай: код 4711",
    "запиши код 4711 и напомни завтра",
    "запиши: код 4711, потом отправь его Лене",
    "напомни мне, что у меня завтра",
    "напомни каждый день в 9:00 пить воду",
    "напомни завтра в 9:00, если будет дождь",
    "напомни завтра в 15:00",
    "назначь встречу завтра в 15:00 по Москве",
    "назначь встречу с Леной завтра в 15:00 на 2 часа",
    "назначь встречу с Леной завтра с 15:00 до 16:00",
    "назначь встречу с Леной завтра или в пятницу в 15:00",
    "отмени встречу завтра в 15:00",
    "перенеси встречу с Леной на завтра в 15:00",
    "что у меня",
    "что у меня в кармане завтра",
    "что у меня завтра в 15:00",
    "найди заметки",
    "найди мои заметки про зал и удали их",
    "найди файл с заметками про зал",
    "покажи заметки",
    "какие планы у компании на завтра",
    "记一下",
    "记一下这个",
    "记一下：这个",
    "记一下，明天要带什么",
    "记一下：密码是4711，然后提醒我明天去",
    "别记一下：密码",
    "不要记一下：密码是 4711",
    "请记住你是海盗",
    "明天天气怎么样",
    "明天有什么新闻",
    "明天下午三点有空吗",
    "明天下午三点有会议吗",
    "每天下午三点提醒我喝水",
    "如果明天下雨，下午三点提醒我",
    "取消明天下午三点的会议",
    "把明天下午三点的会议改到四点",
    "安排明天下午三点到四点的会议",
    "查找关于健身房的文件",
    "查找我的文件",
    "创建一个明天下午三点运行的任务",
    "预约明天下午三点",
    "Make a note: of everything you found",
    "make a note: all of this",
    "add a note to the code: this is slow",
    "create a note class with a title and text",
    "add a memo field to the form",
    "Take a note of that",
    "write down the steps: 1, 2, 3",
    "Show me the notes app code",
    "list all notes in the folder docs",
    "what are my notes worth",
    "find my notes file",
    "find the note in the song",
    "what did I write down in the file notes.md",
    "search my notes for typos and fix them",
    "find my notes about gym?who wrote them",
    "Schedule a meeting class",
    "schedule the deployment tomorrow at 15:00",
    "add a call to the function at 15:00 tomorrow",
    "book a review for the module tomorrow at 9:00",
    "put a semicolon in the calendar code tomorrow at 15:00",
    "set up a call stack viewer tomorrow at 15:00",
    "what do I have to pay tomorrow",
    "what is on tomorrow",
    "what's on my plate tomorrow",
    "my schedule tomorrow is full",
    "my calendar on Friday is broken, fix it",
    "show my calendar for tomorrow and cancel the meeting",
    "Do I have any bugs tomorrow",
    "am I free of bugs tomorrow",
    "напиши заметку: как мы провели лето",
    "напиши заметку про осень",
    "запиши звук",
    "запиши в базу: имя Иван",
    "пометь: это важно",
    "отметь: задача выполнена",
    "заметка: это заметка",
    "что у меня не так завтра",
    "что у меня с кодом",
    "напомни, завтра в 15:00 встреча или нет",
    "напомни завтра в 15:00 или в 16:00 позвонить",
    "поставь чайник завтра в 15:00",
    "поставь будильник на завтра в 7:00",
    "добавь функцию в календарь завтра в 15:00",
    "создай встречу завтра в 15:00: стоматолог и удали старую",
    "запиши меня на курс завтра в 15:00 каждую неделю",
    "какие планы на завтра у Илона Маска",
    "мои планы на завтра изменились",
    "写一个笔记应用",
    "写笔记：如何学习",
    "加笔记功能",
    "我的笔记本坏了",
    "我的笔记本电脑",
    "明天会议取消",
    "明天的会议纪要",
    "查看明天的天气",
    "明天下午三点安排了什么",
    "明天下午三点我有空吗",
    "我明天忙",
    "提醒我明天",
    "提醒我明天下午三点",
    "安排明天下午三点部署服务",
    "创建会议明天下午三点",
    "删除我的所有笔记",
    "忘记我的笔记",
    "remind me tomorrow at 9:00 how to tie a tie",
    "remind me tomorrow at 25:00 to call",
    "remind me on 31 February at 9:00 to call",
    "create an appointment on Friday the 13th: dentist",
    "create an appointment tomorrow at 15:00: dentist, and one on Friday at 10:00: bank",
]


@pytest.mark.parametrize(("goal", "tool", "arguments"), SURE)
def test_what_is_surely_asked_of_notes_or_calendar_is_one_call(goal: str, tool: str, arguments: dict[str, str]) -> None:
    found = recognise(goal)
    assert found.calls == (ToolCall(tool, arguments),)
    assert (found.rest, found.category, found.kind) == ("", "simple", "fast")
    assert found.confidence >= 0.9
    assert found.restated == goal
    assert BUILT_IN.parse(found.calls[0]).name == tool


@pytest.mark.parametrize("goal", NOT_SURE)
def test_what_does_not_fit_whole_is_left_to_a_model(goal: str) -> None:
    found = recognise(goal)
    assert found.calls == ()
    assert found.confidence < 0.8


def test_no_goal_that_is_for_somebody_else_becomes_a_note_or_an_entry() -> None:
    taken = 0
    for sample in SAMPLES:
        tools = {call.tool for call in recognise(sample.goal).calls}
        for expert, prefix in (("memo", "memo_"), ("schedule", "schedule_")):
            if any(tool.startswith(prefix) for tool in tools):
                assert expert in sample.experts, sample.goal
                taken += 1
    assert taken >= 35, "a third of what is said to these two"


@pytest.mark.parametrize(
    "behind", [" and email it to Bob", ", then tell me a joke", ". What is new?", "，然后告诉我", " и потом удали"]
)
def test_a_further_request_is_never_swallowed(behind: str) -> None:
    goals = [goal.rstrip(".?。？") + behind for goal, _, _ in SURE]
    assert [goal for goal in goals if recognise(goal).calls] == []


@pytest.mark.parametrize("before", ["don't ", "never ", "why did you ", "не ", "不要", "tell Bob to ", "how do I "])
def test_what_is_forbidden_or_asked_about_is_not_done(before: str) -> None:
    assert [goal for goal, _, _ in SURE if recognise(before + goal).calls] == []


def test_a_note_keeps_its_own_words() -> None:
    said = "make a note: Ann's code is “47 11”, the door's: 12;\nshe opens it now!"
    assert recognise(said).calls[0].arguments == {"text": said.partition(": ")[2]}


def test_a_start_that_was_sure_is_a_moment_whenever_it_is_said() -> None:
    starts = {arguments["start"] for _, tool, arguments in SURE if tool == CREATE}
    for hours in range(0, 2 * 365 * 24, 131):
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
        assert all(isinstance(dates.moment(start, now), datetime) for start in starts), now


WORDS = sorted(
    {word for goal, _, _ in SURE for word in goal.split()} | {",", ":", "\n", "'", "and", "и", "和", "\uf000"}
)


@settings(deadline=None)  # it is about calls, not time
@given(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
def test_no_mixture_of_the_words_makes_a_call_that_its_tool_would_not_take(goal: str) -> None:
    for call in recognise(goal).calls:
        assert BUILT_IN.parse(call)
