"""Fine-tuning in torch. Needs the extra [train]; nothing on a device imports this."""

from edgeml._optional import require

require("torch", extra="train")
require("safetensors", extra="train")
