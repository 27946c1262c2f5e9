"""What chat programs ask beside a conversation is told from what people ask, and has an answer without a model."""

import pytest

from gateway.http.openai.asides import by_rule, recognised
from gateway.http.openai.bodies import Said

HISTORY = "<chat_history>\nUSER: How do I bake bread at home today?\nASSISTANT: Slowly.\n</chat_history>"
TITLE = "How do I bake bread at"
ASKED = {
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.": '{"title":"%s"}',
    "### Task:\nGenerate a concise title summarizing the chat history.": '{"title":"%s"}',
    "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history": '{"tags":["General"]}',
    "### Task:\nSuggest 3-5 relevant follow-up questions or prompts": '{"follow_ups":[]}',
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries": '{"queries":[]}',
}


@pytest.mark.parametrize("task", ASKED)
def test_open_webui(task: str) -> None:
    said = [Said("user", f"{task}\n### Chat History:\n{HISTORY}")]
    aside = recognised(said)
    assert aside
    assert by_rule(aside, said) == (ASKED[task] % TITLE if "%" in ASKED[task] else ASKED[task])


@pytest.mark.parametrize(
    "said",
    [
        [Said("user", "Provide a concise, 5-word-or-less title for the conversation, using its same language, with no "
            "punctuation. Apply title case conventions appropriate for the language. Never directly mention the "
            "language name or the word \"title\" and only return the title itself.\n\nConversation:\n"
            "User: How do I bake bread at home?\nAI: Slowly.")],
        [Said("system", "You are a professional conversation summarizer. Generate a concise title that captures it."),
            Said("user", "user: How do I bake bread at home?\nassistant: Slowly.")],
        [Said("user", "How do I bake bread at home?"), Said("assistant", "Slowly."),
            Said("user", "Please generate a four to five word title summarizing our conversation without any lead-in, "
            "punctuation, quotation marks, periods, symbols, bold text, or additional text.")],
        [Said("user", "How do I bake bread at home?"), Said("assistant", "Slowly."),
            Said("user", "使用四到五个字直接返回这句话的简要主题，不要解释、不要标点、不要语气词、不要多余文本")],
        [Said("user", "How do I bake bread at home?"), Said("assistant", "Slowly."),
            Said("user", "Пожалуйста, создайте заголовок из четырех или пяти слов, который обобщит нашу беседу")],
        [Said("user", "Based on the chat history, give this conversation a name.\nKeep it short.\n---\n"
            "How do I bake bread at home?\n---")],
        [Said("system", "Summarize the given session as a 10-word title in the user's language"),
            Said("user", "user: How do I bake bread at home?")],
        [Said("system", "You are a title generator. You output ONLY a thread title."),
            Said("user", "How do I bake bread at home?")],
    ],
    ids=["LibreChat", "LobeChat", "NextChat", "NextChat zh", "NextChat ru", "Chatbox", "Cherry Studio", "opencode"],
)  # fmt: skip
def test_others(said: list[Said]) -> None:
    aside = recognised(said)
    assert aside
    assert by_rule(aside, said) == TITLE


@pytest.mark.parametrize(
    "text",
    [
        "Generate a concise title for my article about bread",
        "### Task: Generate a concise report",
        "Please generate a four to five word title for my book",
        "Suggest 3-5 relevant follow-up questions",
        "What is a <chat_history>?",
        "你好",
    ],
)
def test_a_person_who_asks_for_a_title_gets_work_done(text: str) -> None:
    assert recognised([Said("user", text)]) is None


def test_a_conversation_without_words_still_has_a_title() -> None:
    said = [Said("user", "### Task:\nGenerate a concise title.\n<chat_history>\n\n</chat_history>")]
    aside = recognised(said)
    assert aside
    assert by_rule(aside, said) == '{"title":"New chat"}'
