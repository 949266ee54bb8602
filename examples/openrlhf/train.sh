#!/usr/bin/env bash
# Trains with the unmodified OpenRLHF for four steps, netmon attached, and shows what its TensorBoard has beside the loss.
#
# train.sh [FOLDER]     what is written goes there; default: a folder in /tmp, which the script names
#
# Two ranks on this host, on processors, with a tiny model of random weights. With a model, data and GPUs of your own all that is
# left of this is the line with `netmon run`. Half a minute; the first time DeepSpeed compiles for some minutes more.
#
# Environment: NETMON_INTEGRATIONS_ENV, a Python environment with OpenRLHF; default: that of `make test-integrations`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tests=$root/python/tests/integrations
fail() { printf 'train.sh: %s\n' "$*" >&2; exit 1; }

environment=$("$tests/environment.sh" --find) || fail "there is no OpenRLHF: $tests/environment.sh makes an environment with it (7 GB)"
[ -e "$root/python/netmon/_native/lib/libnetmon.so" ] || "$root/build.sh"
work=$(realpath -m "${1:-$(mktemp -d)}")
mkdir -p "$work"

# What stands in for CUDA and vLLM, and keeps everything on this host.
export PATH=$environment/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=$tests/shim:$root/python HOME=$work
export TORCH_EXTENSIONS_DIR=$environment/torch_extensions DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 GLOO_SOCKET_IFNAME=lo

python "$tests/assets.py" "$work" 2>"$work/log"

# Both ranks are here, so their traffic is on `lo`, which counts only where it is named. Between hosts there is nothing to name.
python -m netmon run --interval 0.2 --cluster-interval 0.5 --interfaces lo -- \
  torchrun --nnodes 1 --nproc_per_node 2 --master_addr 127.0.0.1 --master_port "${MASTER_PORT:-29620}" \
  -m openrlhf.cli.train_sft --model.model_name_or_path "$work/model" \
  --data.dataset "$work/sft.jsonl" --data.input_key input --data.output_key output --data.max_len 64 \
  --train.batch_size 8 --train.micro_batch_size 2 --train.max_epochs 1 --ds.zero_stage 1 --ds.attn_implementation eager \
  --ckpt.output_dir "$work/final" --ckpt.path "$work/checkpoints" --ckpt.save_steps 2 \
  --logger.tensorboard_dir "$work/events" --logger.wandb.run_name run >>"$work/log" 2>&1 || {
  tail -n 30 "$work/log" >&2
  fail "the training failed; all it said is in $work/log"
}

python "$root/examples/openrlhf/show.py" "$work/events"
echo "tensorboard --logdir $work/events"
