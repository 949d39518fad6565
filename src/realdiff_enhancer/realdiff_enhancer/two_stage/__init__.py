"""The method: two-stage diffusion, coarse to fine, from clean to noisy depth (paper section 3).

Modules, in the order in which a frame passes through them: `codec` (disparity residuals), `conditioning` (what the
networks see of the clean depth), `fgs` (frequency-guided supervision), `networks`, `schedule`, `sampling`, `pipeline`
(the model behind the enhancer's common interface); for training, `targets` and `training`.
"""
