"""Every attention beside its authors' own code."""
