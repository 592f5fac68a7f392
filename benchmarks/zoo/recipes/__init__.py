"""How each recipe's file is made; a module has ``make(job) -> facts``.

Each is imported only in its recipe's environment, which need not have torch or onnx.
"""
