# bash completion for baleen. A flag that is new in `baleen VERB --help` belongs here too; a test
# compares the two.

_baleen() {
  local model_flags='--threads --isa --precision --cache-dtype --memory-limit --help'
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]:-}
  local flags=''
  COMPREPLY=()

  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W \
      'run serve keys usage inspect doctor bench convert evaluate quantize train tokenizer --help --version' \
      -- "$cur")
    return
  fi
  if [ "$verb" = tokenizer ] && [ "$COMP_CWORD" -eq 2 ]; then
    mapfile -t COMPREPLY < <(compgen -W 'encode decode train --help' -- "$cur")
    return
  fi

  if [ "$verb" = keys ] && [ "$COMP_CWORD" -eq 2 ]; then
    mapfile -t COMPREPLY < <(compgen -W 'add limit list revoke --help' -- "$cur")
    return
  fi

  case $prev in
    --priority) flags='interactive completion batch' ;;
    --isa) flags='avx512_bf16 avx512 avx2 scalar' ;;
    --precision) flags='f32 bf16 auto' ;;
    --cache-dtype) flags='f32 bf16 int8' ;;
    --type) flags='q8_0 q4_0 bf16' ;;
    --task) flags='perplexity logits routing' ;;
    --file | --output | --database | --tls-cert | --tls-key)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
  esac
  if [ -n "$flags" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
    return
  fi

  case $verb in
    run)
      flags="$model_flags --context --prompt --raw --json --system --think --no-think --max-tokens
        --stop --logprobs --temperature --top-k --top-p --min-p --seed --repetition-penalty
        --presence-penalty --frequency-penalty"
      ;;
    serve)
      flags="$model_flags --host --port --model-name --cors-origin --context --max-sequences
        --prefill-chunk --max-decode-wait --max-waiting-tokens --exact-reuse --max-body --drain
        --database --no-ledger --no-auth --tls-cert --tls-key --sagemaker --log-requests --force-fim
        --machine-price --watts --power-price --currency --reference-prices --reference-name"
      ;;
    keys)
      case ${COMP_WORDS[2]:-} in
        add | limit)
          flags='--database --requests-per-minute --tokens-per-minute --machine-seconds-per-minute
            --priority --help'
          ;;
        list) flags='--database --json --help' ;;
        revoke) flags='--database --help' ;;
      esac
      ;;
    usage)
      flags='--database --days --hours --json --machine-price --watts --power-price --currency
        --reference-prices --reference-name --help'
      ;;
    inspect) flags="$model_flags --tensors --json" ;;
    doctor) flags='--isa --threads --json --help' ;;
    bench) flags="$model_flags --prompt --generate --context --assume-context --batch --repeat --json" ;;
    convert) flags='--type --threads --json --help' ;;
    evaluate)
      flags="$model_flags --task --file --data --limit --token-ids --context --bos-token-id --output
        --json"
      ;;
    quantize)
      flags='--bits --group-size --method --order --small-projections --desc-act --asymmetric --no-scale-search --damp
        --calibration --max-tokens --threads --isa --json --help'
      ;;
    train)
      flags="--model --init --tokenizer --output --data --held-out-share --fim-rate
        --fim-line-share --text-field --separator
        --max-document-bytes --drop-near-duplicates
         --synthetic-share --seed --steps --sequence-length --batch-size --micro-batch-size --recompute
        --products --optimizer --lr --min-lr-ratio --schedule --warmup-steps --beta1 --beta2
        --eps --weight-decay --max-grad-norm --balance --bias-update-speed
        --bias-decay-share --sequence-alpha
        --expert-alpha --device-alpha --communication-alpha --mtp-weight --checkpoint-every
        --validate-every --validation-tokens --threads --isa --json --help"
      ;;
    tokenizer)
      case ${COMP_WORDS[2]:-} in
        encode) flags="$model_flags --json --file --plain" ;;
        decode) flags="$model_flags --json --ids" ;;
        train)
          flags="--data --vocab-size --text-field --separator --min-count --context --memory-limit"
          flags+=" --json"
          ;;
      esac
      ;;
  esac
  if [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
  else
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -d -- "$cur")
  fi
}

complete -F _baleen baleen
