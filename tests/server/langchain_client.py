#!/usr/bin/env python3
"""LangChain's ChatOpenAI against `baleen serve`.

  tests/server/langchain_client.py BALEEN MODEL

Needs tests/server/requirements.txt; exits 77 if that is not installed. Prints a line a
check in GoogleTest's manner.
"""
import asyncio
import os
import sys

os.environ["LANGSMITH_TRACING"] = "false"
try:
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_openai import ChatOpenAI
except ImportError:
    print("langchain-openai is not installed (tests/server/requirements.txt)")
    sys.exit(77)

from harness import Server, chat_model, name, run_suite


def model_of(server, **arguments):
    return ChatOpenAI(base_url=server.url, api_key="none", model=name(server.client()),
                      temperature=0, max_tokens=12, max_retries=0, **arguments)


def check_invoke(server):
    answer = model_of(server).invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= 12
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def check_stream(server):
    messages = [HumanMessage("Tell me of a whale")]
    whole = model_of(server).invoke(messages)
    pieces = list(model_of(server, stream_usage=True).stream(messages))
    assert "".join(piece.content for piece in pieces) == whole.content
    usage = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert usage[-1]["output_tokens"] == whole.usage_metadata["output_tokens"]


def check_chain(server):
    prompt = ChatPromptTemplate.from_messages([("system", "You are {role}."), ("user", "{text}")])
    chain = prompt | model_of(server) | StrOutputParser()
    texts = chain.batch([{"role": "a cat", "text": "Hi"}, {"role": "a dog", "text": "Hi"}])
    assert len(texts) == 2 and all(texts)
    assert asyncio.run(chain.ainvoke({"role": "a cat", "text": "Hi"})) == texts[0]


def checks_of(program, model, folder):
    server = Server(program, chat_model(model, folder), "--no-ledger", "--exact-reuse")
    return [(check, server) for check in (check_invoke, check_stream, check_chain)
            ] + [(lambda s: s.stop(), server)]


if __name__ == "__main__":
    sys.exit(run_suite("LangChain", __doc__, checks_of))
