"""One file per family of findings. A check is a function of an `adamantine.audit.subject.Subject`."""
