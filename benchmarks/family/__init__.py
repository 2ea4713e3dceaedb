"""The attentions side by side: what each computes, what it costs, and a page for each, made from the registry."""
