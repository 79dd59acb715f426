"""A trainer for nnU-Net's own environment: its plans, loss and augmentation, for a wall-clock budget.

nnU-Net finds it through the environment variable nnUNet_extTrainer; ICH_BUDGET_S is the budget, ICH_ITERATIONS
the batches of an epoch.
"""

import os
from time import monotonic

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerBudget(nnUNetTrainer):
    """Short epochs, as many as fit into the budget, so that the learning rate decays to its end within it."""

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device):
        super().__init__(plans, configuration, fold, dataset_json, device)  # nnU-Net keeps arguments by their names
        self.num_iterations_per_epoch = int(os.environ["ICH_ITERATIONS"])
        self.num_val_iterations_per_epoch = 1
        self.num_epochs = 1000

    def run_training(self) -> None:
        self.on_train_start()
        end = monotonic() + float(os.environ["ICH_BUDGET_S"])
        while monotonic() < end:
            started = monotonic()
            self.on_epoch_start()
            self.on_train_epoch_start()
            self.on_train_epoch_end(
                [self.train_step(next(self.dataloader_train)) for _ in range(self.num_iterations_per_epoch)]
            )
            with torch.no_grad():
                self.on_validation_epoch_start()
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
            self.on_epoch_end()
            left = (end - monotonic()) / (monotonic() - started)
            self.num_epochs = self.lr_scheduler.max_steps = self.current_epoch + 1 + max(int(left), 0)
        self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Left out: it predicts the validation cases whole, which takes longer than the budget."""
