#!/bin/sh
exec /opt/agents/gemini/node /opt/agents/gemini/node_modules/@google/gemini-cli/bundle/gemini.js "$@"
