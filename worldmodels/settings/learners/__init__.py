"""What a learner of C can be asked, beside what all of them are (stages.py: ControllerConfig); a file for each."""
