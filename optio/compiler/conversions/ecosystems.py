"""Hosts by the names that other systems give to groups of them, such as `github`, `node` or `python`. Data only."""

ECOSYSTEMS = {
    "github": "github.com, api.github.com",
    "node": "registry.npmjs.org",
    "npm": "registry.npmjs.org",
    "python": "pypi.org, files.pythonhosted.org",
    "pypi": "pypi.org, files.pythonhosted.org",
    "go": "proxy.golang.org, sum.golang.org",
    "rust": "crates.io, index.crates.io, static.crates.io",
    "java": "repo.maven.apache.org",
    "ruby": "rubygems.org",
    "dotnet": "api.nuget.org",
    "php": "repo.packagist.org",
    "containers": "ghcr.io, registry-1.docker.io, auth.docker.io",
    "playwright": "cdn.playwright.dev",
}
