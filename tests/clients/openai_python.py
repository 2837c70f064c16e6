"""openai-python, the client that most programs are written with."""

import asyncio
import concurrent.futures
import json
import unittest
from typing import Literal

import openai
from pydantic import BaseModel

from common import BASE, GUARDED, KEY, MESSAGES, MODEL, PROMPT, SCHEMA, TOOL, TOOLS, assert_fits_schema, at_rest, metric, wait_for

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0)
guarded = openai.OpenAI(base_url=f"{GUARDED}/v1", api_key=KEY, max_retries=0)
tools = openai.OpenAI(base_url=f"{TOOLS}/v1", api_key="unused", max_retries=0)
GREEDY = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "seed": 7, "max_tokens": 40}
LONG = {**GREEDY, "max_tokens": 3500, "extra_body": {"ignore_eos": True}}


class Bird(BaseModel):
    mood: Literal["glad", "sad", "afraid"]
    flies: bool


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


class Chat(unittest.TestCase):
    def test_models_are_listed_and_found_by_name(self):
        self.assertIn(MODEL, [model.id for model in client.models.list()])
        self.assertEqual(client.models.retrieve(MODEL).id, MODEL)

    def test_an_answer_has_content_and_counts_that_add_up(self):
        answer = client.chat.completions.create(**GREEDY)
        self.assertTrue(answer.choices[0].message.content.strip())
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        usage = answer.usage
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertTrue(0 < usage.completion_tokens <= 40)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_streamed_and_whole_are_the_same_text(self):
        for sampling in ({"temperature": 0}, {"temperature": 0.8, "top_p": 0.9}):
            asked = {**GREEDY, **sampling}
            whole = client.chat.completions.create(**asked)
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            self.assertEqual(text_of(chunks), whole.choices[0].message.content)
            self.assertEqual([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1], whole.choices[0].finish_reason)
            self.assertEqual(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)
            usages = [chunk.usage for chunk in chunks if chunk.usage]
            self.assertEqual(len(usages), 1)
            self.assertEqual(usages[0].completion_tokens, whole.usage.completion_tokens)
            self.assertEqual(usages[0].prompt_tokens, whole.usage.prompt_tokens)

    def test_a_stream_tells_its_usage_only_when_asked(self):
        self.assertFalse([chunk for chunk in client.chat.completions.create(**GREEDY, stream=True) if chunk.usage])

    def test_the_clients_own_accumulator_sees_the_whole_answer(self):
        whole = client.chat.completions.create(**GREEDY).choices[0].message.content
        with client.chat.completions.stream(**GREEDY) as stream:
            stream.until_done()
            self.assertEqual(stream.current_completion_snapshot.choices[0].message.content, whole)

    def test_many_at_once_say_what_each_says_alone(self):
        prompts = [f"{PROMPT} It was {n} years old." for n in range(12)]
        asked = [{**GREEDY, "messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
        alone = [client.chat.completions.create(**one).choices[0].message.content for one in asked]

        async def together():
            async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0) as many:
                answers = await asyncio.gather(*(many.chat.completions.create(**one) for one in asked))
            return [answer.choices[0].message.content for answer in answers]

        self.assertEqual(asyncio.run(together()), alone)

    def test_a_second_turn_computes_only_what_is_new(self):
        first = client.chat.completions.create(**GREEDY)
        said = first.choices[0].message.content
        turns = MESSAGES + [{"role": "assistant", "content": said}, {"role": "user", "content": "And then?"}]
        second = client.chat.completions.create(**{**GREEDY, "messages": turns})
        self.assertGreaterEqual(second.usage.prompt_tokens_details.cached_tokens, first.usage.prompt_tokens)

    def test_a_stop_string_ends_the_answer_and_is_not_in_it(self):
        said = client.chat.completions.create(**GREEDY).choices[0].message.content
        stop = said.split()[3]
        answer = client.chat.completions.create(**GREEDY, stop=[stop]).choices[0]
        self.assertEqual(answer.finish_reason, "stop")
        self.assertEqual(answer.message.content, said[: said.index(stop)])

    def test_several_choices_and_logarithms_of_probabilities(self):
        answer = client.chat.completions.create(**{**GREEDY, "temperature": 0.9}, n=2, logprobs=True, top_logprobs=3)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        self.assertNotEqual(answer.choices[0].message.content, answer.choices[1].message.content)
        for choice in answer.choices:
            text = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
            self.assertTrue(text.startswith(choice.message.content.encode()))
            for token in choice.logprobs.content:
                self.assertLessEqual(token.logprob, 0)
                self.assertEqual(len(token.top_logprobs), 3)

    def test_completions_continue_a_text(self):
        asked = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 20}
        whole = client.completions.create(**asked)
        self.assertTrue(whole.choices[0].text)
        self.assertEqual("".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True) if chunk.choices), whole.choices[0].text)
        echoed = client.completions.create(**asked, echo=True)
        self.assertEqual(echoed.choices[0].text, "Once upon a time" + whole.choices[0].text)
        self.assertEqual([choice.index for choice in client.completions.create(**{**asked, "prompt": ["One", "Two"]}).choices], [0, 1])


class Forms(unittest.TestCase):
    def test_an_answer_of_a_schema_fits_it(self):
        form = {"type": "json_schema", "json_schema": {"name": "bird", "strict": True, "schema": SCHEMA}}
        for seed in range(5):
            asked = {**GREEDY, "temperature": 1, "seed": seed, "max_tokens": 100, "response_format": form}
            answer = client.chat.completions.create(**asked).choices[0]
            self.assertEqual(answer.finish_reason, "stop")
            assert_fits_schema(json.loads(answer.message.content))
            self.assertEqual(text_of(client.chat.completions.create(**asked, stream=True)), answer.message.content)

    def test_a_class_is_parsed(self):
        parsed = client.chat.completions.parse(**{**GREEDY, "max_tokens": 100}, response_format=Bird)
        self.assertIsInstance(parsed.choices[0].message.parsed, Bird)

    def test_an_object_is_json_once_it_has_ended(self):
        for seed in range(8):
            asked = {**GREEDY, "temperature": 1, "seed": seed, "max_tokens": 300}
            answer = client.chat.completions.create(**asked, response_format={"type": "json_object"}).choices[0]
            self.assertTrue(answer.message.content.lstrip().startswith("{"))
            if answer.finish_reason == "stop":
                self.assertIsInstance(json.loads(answer.message.content), dict)

    def test_a_template_without_tools_refuses_them(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            client.chat.completions.create(**GREEDY, tools=[TOOL])
        self.assertIn("tools", str(refused.exception))

    def test_a_call_that_is_demanded_is_made(self):
        named = {"type": "function", "function": {"name": "look_at_bird"}}
        for choice in ("required", named):
            asked = {**GREEDY, "max_tokens": 200, "tools": [TOOL], "tool_choice": choice}
            answer = tools.chat.completions.create(**asked).choices[0]
            self.assertEqual(answer.finish_reason, "tool_calls")
            (call,) = answer.message.tool_calls
            self.assertEqual(call.function.name, "look_at_bird")
            assert_fits_schema(json.loads(call.function.arguments))
            with tools.chat.completions.stream(**asked) as stream:
                stream.until_done()
                (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
            self.assertEqual(json.loads(streamed.function.arguments), json.loads(call.function.arguments))
            turns = [*MESSAGES, answer.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "It flies."}]
            after = tools.chat.completions.create(**{**GREEDY, "messages": turns}, tools=[TOOL], tool_choice="none")
            self.assertFalse(after.choices[0].message.tool_calls)

    def test_a_call_that_is_not_demanded_may_be_left_out(self):
        answer = tools.chat.completions.create(**GREEDY, tools=[TOOL], tool_choice="auto").choices[0]
        self.assertTrue(answer.message.content or answer.message.tool_calls)


class Errors(unittest.TestCase):
    def test_a_wrong_key_is_an_authentication_error(self):
        with self.assertRaises(openai.AuthenticationError) as refused:
            openai.OpenAI(base_url=f"{GUARDED}/v1", api_key="wrong", max_retries=0).models.list()
        self.assertEqual(refused.exception.code, "invalid_api_key")

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as refused:
            client.chat.completions.create(**{**GREEDY, "model": "gpt-4o"})
        self.assertEqual(refused.exception.code, "model_not_found")
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")

    def test_a_bad_value_is_named(self):
        for name, value in (("temperature", -1), ("top_p", 2), ("n", 0), ("stop", [""] * 20), ("logit_bias", {"999999999": 1})):
            with self.assertRaises(openai.BadRequestError) as refused:
                client.chat.completions.create(**{**GREEDY, name: value})
            self.assertEqual(refused.exception.param, name)

    def test_what_cannot_be_honoured_is_refused(self):
        for body in ({"audio": {"voice": "a", "format": "wav"}}, {"functions": [TOOL["function"]]}, {"grammar": "x"}, {"store": True}):
            with self.assertRaises(openai.BadRequestError):
                client.chat.completions.create(**GREEDY, extra_body=body)

    def test_a_prompt_that_is_too_long_says_so(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            client.chat.completions.create(**{**GREEDY, "messages": [{"role": "user", "content": "sea " * 20000}]})
        self.assertEqual(refused.exception.code, "context_length_exceeded")
        self.assertIn("maximum context length", str(refused.exception))

    def test_a_model_that_writes_makes_no_embeddings(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            client.embeddings.create(model=MODEL, input="a bird")
        self.assertIn("embeddings", str(refused.exception))

    def test_a_full_queue_is_a_rate_limit_and_the_others_are_served(self):
        asked = {**LONG, "messages": MESSAGES}

        def one(_):
            try:
                return guarded.chat.completions.create(**asked).choices[0].finish_reason
            except openai.RateLimitError as refused:
                self.assertEqual(refused.code, "queue_full")
                self.assertGreaterEqual(int(refused.response.headers["retry-after"]), 1)
                return "refused"

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            ends = list(pool.map(one, range(24)))
        self.assertEqual(set(ends), {"length", "refused"})
        wait_for("the guarded server at rest", lambda: at_rest(GUARDED))


class Cancel(unittest.TestCase):
    def test_a_stream_that_is_closed_ends_its_work(self):
        wait_for("at rest before", at_rest)
        before = metric("requests_cancelled_total")
        stream = client.chat.completions.create(**LONG, stream=True)
        next(stream)
        stream.close()
        wait_for("one more cancelled, none running", lambda: metric("requests_cancelled_total") == before + 1 and at_rest())

    def test_a_call_that_is_given_up_ends_its_work(self):
        wait_for("at rest before", at_rest)
        before = metric("requests_cancelled_total")

        async def give_up():
            async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0) as hasty:
                call = asyncio.ensure_future(hasty.chat.completions.create(**LONG))
                while not call.done() and await asyncio.to_thread(metric, "num_requests_running") == 0:
                    pass
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

        asyncio.run(give_up())
        wait_for("one more cancelled, none running", lambda: metric("requests_cancelled_total") == before + 1 and at_rest())


if __name__ == "__main__":
    unittest.main(verbosity=2)
