"""The migration manager: a move as a job with explicit states, a journal, and a clean way back from each of them.

* `states`: states, steps, the job's record · `events`: what comes into the engine and what goes out
* `engine`: the state machine · `verdict`: who has the guest, by rule, after an ambiguous outcome
* `journal`: jobs and events on disk · `executor`: runs one job's engine · `saga`: performs its instructions
* `progress`: ETA · `preflight`, `survey`, `guests`: what is checked and asked before · `actor`: the doors
"""
