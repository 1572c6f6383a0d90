//! The longer texts of `--help`: examples, and what no single option says.

pub(super) const ABOUT: &str = "Prune safetensors models by their effective number of weights";

pub(super) const LONG_ABOUT: &str = "\
Prune safetensors models by their effective number of weights.

How many weights of a row matter is a number that the row itself tells: N_eff = (sum |w|)^2 / sum w^2. It is N when all \
weights are alike and 1 when one outweighs the rest. emprune keeps that many, the largest, and zeroes the others; there \
is no ratio to choose. The answer is exact and the same on every backend, and comes with a bound: the least share \
of sum |w| that any row with such an N_eff could have kept.

Files are streamed, so a model of any size fits the memory that --memory allows. The output has the headers of the \
input, byte for byte, and differs in zeroed weights only. Zeros alone make no file smaller and no runtime faster.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  emprune demo
      see the whole job on a small network that is inside the program
  emprune inspect model.safetensors
      what would be pruned, exactly; nothing is written
  emprune prune model.safetensors -o pruned.safetensors
      one contest per row, on the best backend there is
  emprune prune model-directory -o pruned-directory
      all the shards of an index, and every other file as it is
  emprune verify model.safetensors pruned.safetensors
      decide again, and compare every byte
  emprune devices
      the backends of this machine
  emprune bench
      how fast they are

Exit codes: 0 done, 1 failed (and no output was written, unless what failed was to say so, or to give an output its \
name: with --overwrite others may have been replaced by then, and what is complete stays and is named), 2 \
wrong usage, 130 interrupted (and no output was written; of several shards those that SIGTERM, or on Linux the SIGHUP \
of a terminal that is closed, found finished by prune stay, for the same command to go on from; a second Ctrl-C ends at once \
and leaves partial files, which the next run removes or takes over).";

pub(super) const PRUNE_HELP: &str = "\
Examples:
  emprune prune model.safetensors -o pruned.safetensors --beta 0.8 --report report.json
      keep 0.8 N_eff weights of every row, and write down what came of it
  emprune inspect model.safetensors --granularity tensor --plot plots
      what would be kept if every tensor were one contest, with pictures
  emprune prune model.safetensors -o pruned.safetensors --targets '*.mlp.*' --ignore '*.0.*'
      some layers only
  emprune prune model.safetensors -o pruned.safetensors --score wanda --norms imatrix.gguf
      weights count by what they are multiplied with
  emprune prune model.safetensors -o pruned.safetensors --score gradients.safetensors --granularity block:16x16
      scores of your own; every block of 16 x 16 is a contest
  emprune prune model.safetensors -o pruned.safetensors --nm 2:4
      two of every four, for comparison: no effective number is asked for
  emprune prune model.safetensors -o pruned.safetensors --structure head:12 --norm l1 --targets '*.q_proj'
      whole attention heads of every q_proj by itself; the report's kept_structures says which stay (groups:FILE cuts
      those of q, k and v together)

A directory has model.safetensors.index.json and its shards, or one model.safetensors; or both are called \
diffusion_pytorch_model, as by diffusers. The output is a new directory \
with the same names and the report, emprune_report.json. Not copied are hidden subdirectories, links to directories, \
pipes and the like, what a killed run left, and a report that the input has itself.

A row is what has one index of the first axis: of a linear layer [outputs, inputs] the weights of an output, of a \
convolution [outputs, inputs, height, width] a filter, of stacked experts [experts, outputs, inputs] an expert, or with \
--row-axes 2 an output of an expert. A layer that is stored transposed, such as GPT-2's Conv1D [inputs, outputs], has the \
weights of an input in a row. With fewer than two axes a tensor is one row, and one contest by row or column.

Groups are for what must be cut together. --structure groups:FILE names a safetensors file that has, under each weight's \
name, integers: the number of every row's group in the shape [rows], or of every column's in the shape [1, columns]. Groups are \
numbered from 0, and none is empty. With --granularity global a number means one group in all tensors: give the rows of an \
MLP's first layer and the columns of its second the same numbers, and its hidden units live or die as wholes. A recipe with a rule \
for each block makes a contest for each block. With --score FILE, structures may have scores of their own: a vector of one for \
each; of what several tensors say about a group that they share, the largest counts.

A recipe is a list of rules. The first that matches a tensor gives it its settings, under the names of the options; what \
a rule does not say is as on the command line. Rules do not select, but for skip = true, which leaves alone, and skip = \
false, which asks for its tensors as --targets does, in addition to it, even if they have one axis or are exceptions by \
name. All tensors of one rule whose granularity is global are one contest. Files that a rule names are looked for \
where the command runs, not beside the recipe.

  [[rule]]
  pattern = [\"*.0.*\", \"*.23.*\"]
  skip = true

  [[rule]]
  pattern = \"*.mlp.*\"
  beta = 0.8
  granularity = \"tensor\"

In tables, pictures and reports, sparsity is the share of weights that are not kept. Weights that are kept may be zero themselves: the \
report counts all zeros, before and after. Mass is the share of the sum of all scores that is kept, and its bound (mass_bound in \
reports) the least that it could have been with that N_eff.

With --json, each line on stderr that begins with a brace is an object whose \"event\" is started (input, output, \
tensors, bytes, backend), progress (bytes_done, bytes_total, and pass where all tensors are one contest), tensor (its \
part of the report), note or warning (message), finished (seconds), or failed (message, exit_code). Progress comes once \
a second at most. One of finished, after the report is printed, and failed comes last; failed also where the command line \
is refused.

RAYON_NUM_THREADS says how many threads compute, all processors' by default; the answer is the same.

Patterns: one that equals a tensor's name, or its name without .weight, means that tensor. Else it is a glob (* also \
crosses dots) or, after re:, a regex that must match from the start of the name. Without --targets, all F32, F16, \
BF16, F8_E4M3 and F8_E5M2 tensors of two or more axes are pruned, except vectors (of three or more \
axes, no two longer than one) and those that reports skip, by their names, as: embedding, norm, \
lm_head, output head, router, bias, state matrix, grid or mask, quantisation scale. Single tokens are embeddings, Mamba's A_log is a state \
matrix, and a Kolmogorov-Arnold network has grids and masks. --targets overrides these exceptions, and so does a rule \
with skip = false; --ignore overrides both.";

pub(super) const VERIFY_HELP: &str = "\
Examples:
  emprune prune model.safetensors -o pruned.safetensors --beta 0.8 --masks masks.safetensors
  emprune verify model.safetensors pruned.safetensors --beta 0.8 --masks masks.safetensors --backend cpu

The output may also be named by -o, as the command of prune has it; with --report, --plot and --overwrite, which mean nothing here, that command is understood \
as it is. Not with --json: there is no report.

The exit code is 0 when every byte of weights, masks and files beside the model is as it should be; a report is not compared, nor \
need it be there. Else it is 1, and the first tensor and entry that differ are named.";

pub(super) const APPLY_HELP: &str = "\
Examples:
  emprune inspect model.safetensors --masks masks.safetensors
  emprune apply --masks masks.safetensors model.safetensors -o pruned.safetensors

Every mask must be for a tensor of the model, of as many weights. Tensors without a mask are copied as they are, so to \
apply masks again, after fine-tuning say, is to restore the zeros; to apply them twice is to apply them once.";

pub(super) const DIFF_HELP: &str = "\
Examples:
  emprune diff pruned.safetensors other.safetensors
  emprune diff masks.safetensors pruned.safetensors --json
  emprune diff sharded-directory single.safetensors

What a model keeps of a tensor is its entries that are not zero. both: kept in A and in B; Jaccard: of what is kept in A \
or in B, the share that is kept in both. Values do not count, nor do dtypes, shards or the order of tensors. A file of U8 tensors \
alone is taken for masks, as apply takes it. The exit code is 0, whatever the difference, and 1 where no tensor can be compared.";

pub(super) const BENCH_HELP: &str = "\
Examples:
  emprune bench
      the CPU, and a GPU if there is one: ten seconds
  emprune bench --sizes 1e8 --peers --memory 8GiB
  emprune bench --sizes 2^20,2^24,2^28 --backend gpu --task prune,mask --input normal,lognormal,int8,equal,zeros --json
  emprune bench --plan --sizes 2^28

A time is the median of runs that take turns with copies of the same bytes by all threads, or from buffer to buffer on a \
device. Every answer is checked before it is timed; a wrong one ends the run with exit code 1.";

pub(super) const IMAGE_HELP: &str = "\
Examples:
  emprune image photo.jpg -o pruned.png
  emprune image photo.png -o pruned.png --patch 16 --report report.json

The score of a pixel is |pixel - mean|, exactly, for each channel by itself. Pixels that lose become the mean, rounded to \
the nearest integer and halves to the even one. Alpha is kept. Patches at the right and lower edges may be smaller; one \
whose pixels are all alike is kept as it is. The picture is written upright, with its ICC profile; what else a PNG \
says of its colours (gAMA, cHRM, sRGB, cICP) is not.

A picture may have 268 million pixels. In memory it takes up to six times its samples, which are of one or two bytes.

SSIM is that of Wang et al. (2004), in windows of 8 x 8 pixels side by side, over which each channel is averaged; PSNR is over all \
samples. Other tools, with windows that overlap, say other numbers.";
