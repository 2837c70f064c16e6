"""LangChain's ChatOpenAI: chat, streams, tools, structured output, errors."""

import unittest
from typing import Literal

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel

from common import BASE, GUARDED, MODEL, PROMPT, TOOL, TOOLS, assert_fits_schema, at_rest, metric, wait_for


def chat(base=BASE, **more):
    settings = {"model": MODEL, "api_key": "unused", "temperature": 0, "seed": 7, "max_tokens": 60, "max_retries": 0, **more}
    return ChatOpenAI(base_url=f"{base}/v1", **settings)


class Bird(BaseModel):
    """A bird."""

    mood: Literal["glad", "sad", "afraid"]
    flies: bool


class Chat(unittest.TestCase):
    def test_streamed_and_whole_are_the_same_text(self):
        whole = chat().invoke(PROMPT)
        self.assertTrue(whole.content.strip())
        self.assertEqual("".join(chunk.content for chunk in chat().stream(PROMPT)), whole.content)

    def test_usage_is_told_whole_and_streamed(self):
        whole = chat().invoke(PROMPT).usage_metadata
        self.assertEqual(whole["total_tokens"], whole["input_tokens"] + whole["output_tokens"])
        usages = [chunk.usage_metadata for chunk in chat(stream_usage=True).stream(PROMPT) if chunk.usage_metadata]
        self.assertEqual([(usage["input_tokens"], usage["output_tokens"]) for usage in usages], [(whole["input_tokens"], whole["output_tokens"])])

    def test_turns_are_kept(self):
        said = chat().invoke(PROMPT)
        after = chat().invoke([HumanMessage(PROMPT), said, HumanMessage("And then?")])
        self.assertGreaterEqual(after.usage_metadata["input_token_details"]["cache_read"], said.usage_metadata["input_tokens"])

    def test_a_batch_is_each_alone(self):
        prompts = [f"{PROMPT} It was {n}." for n in range(6)]
        self.assertEqual([a.content for a in chat().batch(prompts)], [chat().invoke(prompt).content for prompt in prompts])


class Forms(unittest.TestCase):
    def test_structured_output_by_schema(self):
        self.assertIsInstance(chat().with_structured_output(Bird).invoke(PROMPT), Bird)

    def test_structured_output_by_a_call(self):
        self.assertIsInstance(chat(TOOLS, max_tokens=200).with_structured_output(Bird, method="function_calling").invoke(PROMPT), Bird)

    def test_a_tool_that_is_demanded_is_called(self):
        bound = chat(TOOLS, max_tokens=200).bind_tools([TOOL], tool_choice="required")
        answer = bound.invoke(PROMPT)
        (call,) = answer.tool_calls
        assert_fits_schema(call["args"])
        total = None
        for chunk in bound.stream(PROMPT):
            total = chunk if total is None else total + chunk
        self.assertEqual(total.tool_calls[0]["args"], call["args"])
        turns = [HumanMessage(PROMPT), answer, ToolMessage("It flies.", tool_call_id=call["id"])]
        self.assertIsInstance(chat(TOOLS).bind_tools([TOOL]).invoke(turns), AIMessage)

    def test_a_template_without_tools_refuses_them(self):
        with self.assertRaises(openai.BadRequestError):
            chat().bind_tools([TOOL]).invoke(PROMPT)


class Errors(unittest.TestCase):
    def test_errors_are_of_their_classes(self):
        for error, asked in (
            (openai.AuthenticationError, lambda: chat(GUARDED, api_key="wrong").invoke(PROMPT)),
            (openai.NotFoundError, lambda: chat(model="gpt-4o").invoke(PROMPT)),
            (openai.BadRequestError, lambda: chat(temperature=-1).invoke(PROMPT)),
            (openai.BadRequestError, lambda: chat().invoke("sea " * 20000)),
            (openai.BadRequestError, lambda: OpenAIEmbeddings(base_url=f"{BASE}/v1", api_key="unused", model=MODEL, check_embedding_ctx_length=False).embed_query("a bird")),
        ):
            with self.assertRaises(error):
                asked()

    def test_a_stream_that_is_closed_ends_its_work(self):
        wait_for("at rest before", at_rest)
        before = metric("requests_cancelled_total")
        stream = chat(max_tokens=3500, extra_body={"ignore_eos": True}).stream(PROMPT)
        next(stream)
        stream.close()
        wait_for("one more cancelled, none running", lambda: metric("requests_cancelled_total") == before + 1 and at_rest())


if __name__ == "__main__":
    unittest.main(verbosity=2)
