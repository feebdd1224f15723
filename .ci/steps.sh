# Sourced by `run` and `full`: named steps, each with its seconds.

# One target directory for all workspaces and both scripts, so that nothing is built twice.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

# run_steps MINUTES STEP...: runs functions by their names, and says at the end how long each took. The machines of CI
# are noisy, so to take longer than that is a warning and no failure.
run_steps() {
    local minutes=$1 step begun total table=""
    shift
    trap 'printf "\n== failed: %s, after %d s\n" "$step" "$((SECONDS - begun))" >&2' ERR
    for step in "$@"; do
        printf '\n== %s\n' "$step"
        begun=$SECONDS
        "$step"
        table+=$(printf '%6d s  %s' "$((SECONDS - begun))" "$step")$'\n'
    done
    trap - ERR
    total=$SECONDS
    printf '\n%s%6d s  in all\n' "$table" "$total"
    if ((total > minutes * 60)); then
        printf 'warning: this took %d s, and should take %d minutes at most\n' "$total" "$minutes" >&2
    fi
}
