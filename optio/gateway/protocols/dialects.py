"""All protocols of model services that the gateway speaks, by their names."""

from collections.abc import Mapping

from optio.gateway.protocols.anthropic import Messages
from optio.gateway.protocols.base import Dialect
from optio.gateway.protocols.gemini import GenerateContent
from optio.gateway.protocols.openai import ChatCompletions, Responses

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (Messages(), Responses(), ChatCompletions(), GenerateContent())
}
