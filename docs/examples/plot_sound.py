"""
Speech in a few components
==========================

A telephone exchange speaks in prompts: "please enter your password". A prompt is divided into frames of 32 ms, and each
frame is a spectrum of 109 levels in dB. PCA and an autoencoder reduce frames to a few components. Then a held-out
prompt is converted back to sound from its codes, and a VAE draws new frames.

The prompts are those of Debian's package asterisk-core-sounds-en-wav, one speaker at 8 kHz. If it is not installed,
synthetic vowels replace them: harmonics of a gliding pitch under gliding formants.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.io import wavfile
from scipy.signal import ShortTimeFFT
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score, train_test_split

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

RATE = 8000
VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])  # Hz


def load_prompts():
    """Return recordings at 8 kHz as arrays in [-1, 1], and their name."""
    folder = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
    paths = [path for path in sorted(folder.glob("**/*.wav")) if path.parent.name != "silence"]
    if paths:
        return [wavfile.read(path)[1] / 2**15 for path in paths], "prompts"
    print(f"No recordings in {folder} (Debian's asterisk-core-sounds-en-wav): these are synthetic vowels.")
    rng = np.random.RandomState(0)
    t, harmonic = np.arange(2 * RATE) / RATE, np.arange(1, 30)[:, None]
    recordings = []
    for _ in range(150):
        pitch = np.interp(t, [0, 1, 2], rng.uniform(120, 280, 3))
        spoken = VOWELS[rng.randint(len(VOWELS), size=6)].T * rng.uniform(0.9, 1.1)
        formants = [np.interp(t, np.linspace(0, 2, 6), targets) for targets in spoken]
        frequency = harmonic * pitch
        level = sum(1 / (1 + ((frequency - formant) / 80) ** 2) for formant in formants) / harmonic
        voice = (level * (frequency < 3800) * np.sin(2 * np.pi * harmonic * np.cumsum(pitch) / RATE)).sum(axis=0)
        recordings.append(0.1 * voice + 1e-4 * rng.standard_normal(len(t)))
    return recordings, "synthetic vowels"


# %%
# There is a frame of 32 ms every 8 ms, restricted to the frequencies of the telephone, outside which the recordings
# have hardly any energy. Levels are in dB of full scale, of at least -100. Silent frames, with a total below -45 dB,
# are left out, since they are easy to reconstruct and would lower every error. One recording in five is held out as a
# whole, so that no held-out frame overlaps a training frame.

FLOOR = -100
stft = ShortTimeFFT.from_window("hann", RATE, nperseg=256, noverlap=192, scale_to="magnitude")
band = (stft.f >= 125) & (stft.f <= 3500)


def decibels(spectrum):
    return np.maximum(20 * np.log10(np.abs(spectrum[band]) + 1e-9), FLOOR).T.astype(np.float32)


def loud(frames):
    return 10 * np.log10((10 ** (frames / 10)).sum(axis=1)) > -45


def all_frames(recordings):
    frames = np.concatenate([decibels(stft.stft(recording)) for recording in recordings])
    return np.random.RandomState(0).permutation(frames[loud(frames)])


recordings, name = load_prompts()
train, test = train_test_split(recordings, test_size=0.2, random_state=0)
X_train, X_test = all_frames(train), all_frames(test)
print(
    f"training: {len(train)} {name} with {len(X_train)} frames, at most 12000 of which are used; "
    f"held out: {len(test)} with {len(X_test)} frames"
)
X_train, X_test = X_train[:12000], X_test[:4000]

# %%
# The error in dB is the root mean square difference between the levels of held-out frames and their reconstructions.
# On the prompts the autoencoder has less error with 8 components than PCA with 16. The gain is largest between 4 and
# 16 components: 2 are too few for either, and with 48 of 109 both have nearly the same error.

sizes, errors, models = (2, 4, 8, 16, 48), {"PCA": [], "autoencoder": []}, {}
print("\ncomponents        PCA      autoencoder   its fit")
for n in sizes:
    pca = PCA(n).fit(X_train)
    began = time.perf_counter()
    autoencoder = AutoencoderTransformer(n, max_iter=12, random_state=0).fit(X_train)
    seconds = time.perf_counter() - began
    models[n] = {"PCA": pca, "autoencoder": autoencoder}
    for label, model in models[n].items():
        errors[label].append(reconstruction_error(model, X_test) ** 0.5)
    print(f"{n:15}   {errors['PCA'][-1]:4.2f} dB  {errors['autoencoder'][-1]:4.2f} dB  {seconds:11.1f} s")

# %%
# Back to sound. A code describes levels, not phases. The phases are either those of the original, or estimated by the
# algorithm of Griffin and Lim. It converts levels and phases to sound, computes the spectrum of the sound, keeps only
# the phases of that, and repeats. Silent frames stay silent.
#
# The table has three errors of the prompt's frames that are not silent: that of the reconstructed levels, and those
# of the levels of the sound, with the original's phases and with estimated ones. The line "all levels" has no codes,
# and shows the error that estimated phases cause: on the prompts 2 dB, much less than that of 8 components. With the
# original's phases the sound has less error than its levels had, since frames overlap and the phases correct some of
# them.


def griffin_lim(levels, n_samples, rounds=60):
    phases = np.exp(2j * np.pi * np.random.RandomState(0).uniform(size=levels.shape))
    for _ in range(rounds):
        sound = stft.istft(levels * phases, k1=n_samples)
        phases = np.exp(1j * np.angle(stft.stft(sound)))
    return stft.istft(levels * phases, k1=n_samples)


prompt = min(test, key=lambda recording: abs(len(recording) - 2 * RATE))
spectrum = stft.stft(prompt)
original = decibels(spectrum)
heard = loud(original)
spectrograms = {"all levels": original}
for label, model in models[8].items():
    spectrograms[f"{label}, 8 components"] = np.where(
        heard[:, None], model.inverse_transform(model.transform(original)), FLOOR
    ).astype(np.float32)

wavfile.write("sound_original.wav", RATE, np.int16(np.clip(prompt, -1, 1) * 32767))
print("\nsound from                 its levels   original phases   Griffin-Lim")
for label, frames in spectrograms.items():
    levels = np.zeros(spectrum.shape)
    levels[band] = np.where(frames > FLOOR, 10 ** (frames.clip(max=0) / 20), 0).T
    sounds = {
        "phases_kept": stft.istft(levels * np.exp(1j * np.angle(spectrum)), k1=len(prompt)),
        "griffin_lim": griffin_lim(levels, len(prompt)),
    }
    again = [frames]
    for phases, sound in sounds.items():
        again.append(decibels(stft.stft(sound)))
        file = f"sound_{label.split(',')[0].replace(' ', '_')}_{phases}.wav"
        wavfile.write(file, RATE, np.int16(np.clip(sound, -1, 1) * 32767))
    coded, kept, found = (np.sqrt(np.mean((other - original)[heard] ** 2)) for other in again)
    print(f"{label:25} {coded:8.2f} dB {kept:14.2f} dB {found:10.2f} dB")

# %%
# New frames. A random forest is cross-validated on 2,000 real frames of held-out recordings and as many new ones. An
# accuracy of 50 % means that it cannot distinguish them, as is the case for further real frames. `max_iter=0` is
# factor analysis, the model from which the VAE starts. New frames have levels of at least -100 dB, as real ones.
#
# On the prompts, frames of the VAE with a standard normal prior are distinguished less often than those of factor
# analysis, but the standard deviations of their levels are wrong by 1.4 dB. Fricatives, hums and vowels are groups,
# which a normal density of codes merges. A mixture prior corrects most of that, although the forest still
# distinguishes more than half of the frames. Frames are drawn independently, so a sequence of them is no speech.

real, more = X_test[:2000], X_test[2000:]
generators = {
    "factor analysis": VAEGenerator(8, max_iter=0),
    "VAE": VAEGenerator(8, max_iter=12, random_state=0),
    "VAE, mixture prior": VAEGenerator(8, prior="mixture", max_iter=12, random_state=0),
}
sampled = {"more real frames": more}
for label, generator in generators.items():
    sampled[label] = np.maximum(generator.fit(X_train).sample(2000, random_state=0), FLOOR)
print("\nframes               distinguished   error of mean    error of std")
for label, frames in sampled.items():
    forest = RandomForestClassifier(50, random_state=0)
    found = cross_val_score(forest, np.concatenate([real, frames]), np.repeat([0, 1], [len(real), len(frames)]), cv=3)
    mean, spread = (np.abs(f(frames, axis=0) - f(real, axis=0)).mean() for f in (np.mean, np.std))
    print(f"{label:20} {found.mean():12.0%} {mean:14.1f} dB {spread:12.1f} dB")

# %%
# Above, the spectrogram of the prompt, and its reconstructions from 8 components a frame. The stripes are the
# harmonics of the voice. They move together as its pitch glides. A curved component can follow that movement, while a
# linear model needs many components: PCA blurs the stripes where they move fastest, at the top. Below, the errors,
# and real and new frames in order of their loudness.

figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
look = {"origin": "lower", "aspect": "auto", "cmap": "cividis", "vmin": FLOOR, "vmax": -20}
for axis, (label, frames) in zip(axes[0], spectrograms.items(), strict=True):
    image = axis.imshow(frames.T, extent=(0, len(prompt) / RATE, 0.125, 3.5), **look)
    axis.set(title=label, xlabel="time (s)", ylabel="frequency (kHz)")
for (label, values), style in zip(errors.items(), ["o--", "s-"], strict=True):
    axes[1, 0].plot(sizes, values, style, color="black", label=label)
axes[1, 0].set(xlabel="components", ylabel="held-out error (dB)", xscale="log", xticks=sizes, xticklabels=sizes)
axes[1, 0].set(title=f"held-out {name}", ylim=(0, None))
axes[1, 0].minorticks_off()
axes[1, 0].legend(frameon=False)
pairs = {"real frames": real, "frames drawn by the VAE": sampled["VAE, mixture prior"]}
for axis, (label, frames) in zip(axes[1, 1:], pairs.items(), strict=True):
    shown = frames[:100]
    axis.imshow(shown[np.argsort(shown.mean(axis=1))].T, extent=(0, 100, 0.125, 3.5), **look)
    axis.set(title=label, xlabel="frame, quiet to loud", ylabel="frequency (kHz)")
figure.colorbar(image, ax=axes, label="level (dB of full scale)")
plt.show()
