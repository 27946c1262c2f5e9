"""Names that traces use, all of them: OpenTelemetry's for messaging, generative AI and HTTP, and our own.

They are copied, not imported: the conventions' package keeps them where each of its versions may move them. A test
holds them against the version that is installed.
"""

from typing import Final

SCOPE: Final = "victoria"

# Messaging
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION: Final = "messaging.message.conversation_id"
MESSAGING_BATCH: Final = "messaging.batch.message_count"

# Generative AI
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_TOKENS_IN: Final = "gen_ai.usage.input_tokens"
GEN_AI_TOKENS_OUT: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOKENS_CACHED: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_FIRST: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT: Final = "gen_ai.output.messages"
GEN_AI_TOOL: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_TOOL_CALL: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_RESULT: Final = "gen_ai.tool.call.result"

# HTTP, and errors of any kind
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"

# Victoria's own
EVENT_TYPE: Final = "victoria.event.type"
OUTCOME: Final = "victoria.outcome"
ATTEMPT: Final = "victoria.attempt"
GOAL: Final = "victoria.goal"

# Values
SYSTEM: Final = "redis_streams"
SEND: Final = "send"
PROCESS: Final = "process"
SETTLE: Final = "settle"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
FUNCTION: Final = "function"
