"""What the bar on a terminal says."""

from types import SimpleNamespace

from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from recsys.training.lightning.callbacks import ProgressBar, Speed


def test_the_bar_counts_epochs_from_one_from_its_first_frame_on(capsys):
    trainer = SimpleNamespace(current_epoch=0, num_training_batches=32, max_epochs=-1, max_steps=-1)
    bar = ProgressBar(Speed())
    bar._trainer = trainer
    bar.train_progress_bar = Tqdm(total=32, disable=False, desc="training")
    for epoch in range(2):
        trainer.current_epoch = epoch
        bar.on_train_epoch_start(trainer)
    bar.train_progress_bar.close()
    shown = capsys.readouterr().err
    assert "Epoch 0" not in shown
    assert shown.index("Epoch 1:") < shown.index("Epoch 2:")
