"""Edit 25 facts into the embedded model and print how many took: a minute on a laptop, no cluster, no download.

The cells (# %%) run one by one in an editor or a notebook, or all together: python examples/edit_25_facts.py
"""

# %% The model, the facts, the method with its preset, and the second moments it needs (built once, then stored)
import workflows.api as sphere

model = sphere.load_model(source="factworld")
facts = sphere.load_stream(dataset="factworld", edits=25, order="shuffled", seed=0)
method = sphere.load_method(name="alphaedit+sphere", model=model)
moments = sphere.build_moments(model=model, method=method, corpus="factworld", sentences=4000)

# %% Edit them in one batch, and score the edited model
edited = sphere.edit(model=model, stream=facts, method=method, moments=moments, batch_size=25)
scores = sphere.score(edited=edited, evaluators={"edit_quality": {}}).to_pandas()

# %% Efficacy: the share of the 25 prompts whose every new token is the model's first choice
efficacy = scores.query("metric == 'efficacy' and protocol == 'argmax'").value.item()
print(f"efficacy of {edited.edits} edits with {method.method.name}: {efficacy:.2f}")
