"""What no assistant needs to see of a user's home: credentials, and what other programs keep there."""

from __future__ import annotations

import os
from pathlib import Path

_CREDENTIALS = (
    ".ssh",
    ".gnupg",
    ".pki",
    ".password-store",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".kde/share/apps/kwallet",
    ".config/keepassxc",
    ".config/Bitwarden",
    ".config/Bitwarden CLI",
    ".config/1Password",
    ".config/op",
    ".config/age",
    ".config/sops",
    ".vault-token",
    ".Xauthority",
    ".ICEauthority",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".fetchmailrc",
    ".msmtprc",
    ".config/rclone",
    ".s3cfg",
    ".boto",
)
_CLOUD = (
    ".aws",
    ".azure",
    ".config/gcloud",
    ".kube",
    ".docker",
    ".config/containers",
    ".config/helm",
    ".terraform.d",
    ".terraformrc",
    ".config/doctl",
    ".config/hcloud",
    ".config/scw",
    ".config/linode-cli",
    ".config/stripe",
    ".config/configstore",
    ".config/netlify",
    ".config/.wrangler",
    ".local/share/com.vercel.cli",
    ".fly",
    ".oci",
    ".bluemix",
    ".databrickscfg",
    ".snowflake",
    ".snowsql",
    ".kaggle",
    ".cache/huggingface/token",
    ".cache/huggingface/stored_tokens",
    ".huggingface",
)
_GIT_HOSTS = (
    ".git-credentials",
    ".config/git/credentials",
    ".git-credential-cache",
    ".cache/git/credential",
    ".config/gh",
    ".config/glab-cli",
    ".config/tea",
    ".config/hub",
    ".config/bb",
)
_REGISTRIES = (
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".config/pypoetry/auth.toml",
    ".local/share/uv/credentials",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".local/share/gem/credentials",
    ".bundle/config",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".nuget/NuGet/NuGet.Config",
    ".composer/auth.json",
    ".config/composer/auth.json",
    ".condarc",
)
_BROWSERS = (
    ".mozilla",
    ".thunderbird",
    ".config/google-chrome",
    ".config/google-chrome-beta",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/vivaldi",
    ".config/opera",
    ".cache/mozilla",
    ".cache/google-chrome",
    ".cache/chromium",
    "snap/firefox",
    "snap/chromium",
    ".var/app",
    ".config/Signal",
    ".config/Slack",
    ".config/discord",
    ".local/share/TelegramDesktop",
)
_ASSISTANTS = (
    ".claude",
    ".claude.json",
    ".config/claude",
    ".codex",
    ".gemini",
    ".qwen",
    ".config/opencode",
    ".local/share/opencode",
    ".local/state/opencode",
    ".cache/opencode",
    ".cursor",
    ".config/cursor",
    ".config/Cursor",
    ".config/cursor-agent",
    ".local/share/cursor-agent",
    ".aider",
    ".aider.conf.yml",
    ".aider.model.settings.yml",
    ".pi",
    ".config/mini-swe-agent",
    ".continue",
    ".cline",
    ".config/goose",
    ".local/share/goose",
    ".config/amp",
    ".local/share/amp",
    ".copilot",
    ".config/github-copilot",
    ".codeium",
    ".windsurf",
    ".config/Code/User/globalStorage",
    ".factory",
    ".augment",
    ".kiro",
    ".kimi",
    ".config/crush",
    ".local/share/crush",
    ".config/io.datasette.llm",
    ".openai",
    ".anthropic",
    ".config/anthropic",
)
_HISTORIES = (
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".local/state/bash",
)
_OURS = (".local/state/parallelai",)
_NAMES = (*_CREDENTIALS, *_CLOUD, *_GIT_HOSTS, *_REGISTRIES, *_BROWSERS, *_ASSISTANTS, *_HISTORIES, *_OURS)


def DEFAULT_HIDDEN(home: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return what is hidden of the home folder `home`, as absolute paths that need not exist.

    Where XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME or XDG_CACHE_HOME is set, what lies there counts too;
    our own state is part of it. An engine shows its own folders again by `readable` and `writable`.
    """
    base = str(Path(home).absolute()).rstrip("/")
    folders = {
        f"{inside}/": str(Path(os.environ.get(variable) or f"{base}/{inside}"))
        for variable, inside in _XDG.items()
    }
    found = [f"{base}/{name}" for name in _NAMES]
    for prefix, folder in folders.items():
        if not folder.startswith("/"):
            continue
        found += [f"{folder}/{name.removeprefix(prefix)}" for name in _NAMES if name.startswith(prefix)]
    return tuple(dict.fromkeys(found))


_XDG = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
}
