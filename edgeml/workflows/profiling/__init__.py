"""``edgeml.profile``: every deployment of one bundle, side by side, under the same loads.

The load engine is ``edgeml.bench``; here are the deployments that it measures, what their figures
are made into, and the advice that follows. What this refuses to do: compare rows with unequal
threads, or print a figure that was not measured or labelled as modelled.
"""
