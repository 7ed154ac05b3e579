"""A table of other systems' keys: where a key stands, which key of Optio does the same, and how its value is converted.

The rows cover GitHub Actions, gh-aw, Kestra, Dagu, Argo Workflows, Airflow, Prefect, n8n, Kelos, Kubernetes, Claude Code and
Codex. A row without an equivalent has an `advice` that says what to do instead, and never only "delete it". Imported only for a
file with an unknown key.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from optio.compiler.conversions import values as to

TASK, ENVIRONMENT, NETWORK, RESOURCES, LIMIT, DEDUPE = "task", "environment", "network", "resources", "startLimit", "dedupe"
TRIGGER, SCHEDULE, WEBHOOK, MANUAL = "trigger", "schedule", "webhook", "manual"
TEST, EXPECT, RESULT = "tests", "expect", "result"

# Keys that together say when a schedule fires; Optio uses five cron fields.
CLOCK = (
    "times time at timeofday runat hour hours minute minutes days day weekdays weekday dayofweek daysofweek dow "
    "on frequency repeat "
    "recurrence every triggeronweekends weekends"
)


class KeyRow(NamedTuple):
    """One key of another system. `names` are folded: lower case, without `_`, `-` and blanks. `ours` is a key of the same
    mapping or a path: `/timeout` from the top, `schedule:timezone` in the config of that trigger, empty where Optio has no
    equivalent. `advice` follows the cure or replaces it."""

    level: str
    names: str
    ours: str = ""
    convert: to.Conversion = to.unchanged
    advice: str = ""


class KeyStem(NamedTuple):
    """A pattern for a part of a name, and the row that applies to such names."""

    part: str
    row: KeyRow

    @property
    def pattern(self) -> "re.Pattern[str]":
        """Return the compiled pattern; compiled on first use, because most files need none."""
        return re.compile(self.part)


_BOUNDS = (
    "you can limit `maxTurns`, `budgetUsd`, `timeout`, `maxRetries`, `maxConcurrent` and `startLimit`: write the "
    "one that you mean"
)
_NO_DELAY = "a run starts as soon as a worker is free, and has no delay: delete this line, or let a schedule start the task"
_LIVES = "`timeout` ends a run, and `environment.keepFailed` keeps the pod of a failed one: write the one that you mean"
KEY = (
    "a key is a secret by its name: write `environment: {secrets: [ANTHROPIC_API_KEY]}`, and set "
    "`OPTIO_SECRET_ANTHROPIC_API_KEY` for the server"
)
_EACH_NAMED = "name each secret by itself: write `environment: {secrets: [NAME]}`; each one is a variable of the run"
NO_PAUSE = "Optio waits 5 s, 10 s, 20 s and so on between tries: write `maxRetries:` for how often, and delete this line"
NOTIFY = (
    "Optio sends no messages: alert on the metric `optio_runs_total`, or say in the prompt whom to inform; then "
    "delete this line"
)
HOOKS = "Optio runs nothing after a run: put it into the prompt, or follow the metric `optio_runs_total`; then delete this line"
ORDER = "tasks do not wait for each other: give this one a webhook, which the first one calls at its end, and delete this line"
_PAST = "runs wait for each other only by `maxConcurrent: 1`: write that if you mean it, and delete this line"
_NEXT = "a task starts no other: let this one call a webhook of the next at its end, and delete this line"
JOBS = "a task is one agent with one prompt: write each job as its own file, with its steps in the prompt, and delete this line"
TOOLS = (
    "agents bring their own tools, and a task chooses none: say in the prompt what the agent may do, name only the secrets "
    "that it needs, and delete this line"
)
_MCP = (
    "a task brings no MCP servers: say in the prompt how to ask the service itself, or start `claude --mcp-config FILE` with "
    "`agentRuntime: command`; then delete this line"
)
RIGHTS = (
    "a run has the rights of its secrets, and no others: name tokens under `environment.secrets` that may do no more than they "
    "must, and delete this line"
)
_SANDBOX = "a run writes into directories of its own, and the worker sets its sandbox (`OPTIO_SANDBOX`): delete this line"
_ACCOUNT = (
    "a task does not choose its service account, which `OPTIO_POD_TEMPLATE` names for all pods of a worker: delete this line"
)
_POSTS = (
    "Optio posts nothing itself: name a token under `environment.secrets`, say in the prompt what to post with it, and delete "
    "this line"
)
IMPORT = "a task takes values from one template: write `extends: templates/NAME.yaml`, with `type: template` in that file"
_FILES = (
    "a run begins with an empty directory: fetch what it needs by a command in `environment.setupCommands`, and "
    "delete this line"
)
_VOLUMES = (
    "a task mounts nothing: the worker's pod template (`OPTIO_POD_TEMPLATE`) may have volumes for all pods, and a command in "
    "`environment.setupCommands` fetches files; delete this line"
)
_IMAGE = "no command of a run is root: put system packages into the image, and delete this line"
_NO_NAME = "a trigger has no name: write a comment, `# what it is for`, and delete this line"
_NO_RIGHTS = "a run gets no rights on its machine: put the tools into the image, and delete this line"
_NO_ENV_FILE = (
    "no file of variables is read: write each under `environment.env`, name those that are secret under "
    "`environment.secrets`, and delete this line"
)
_NO_SERVICE = "a run ends by itself and accepts no connections: delete this line"
_KEPT = "the server decides how long runs are kept (`OPTIO_KEEP_RUNS`): delete this line"
_POOL = "a task chooses no workers: delete this line; `namespaces` in `_policy.yaml` gives tasks to the workers of a namespace"
RUNNER = "workers run all tasks, and a task chooses none: delete this line"
PLACED = "a task does not choose where its pod runs: set `OPTIO_POD_TEMPLATE` for the worker, and delete this line"
WORDS = "a task has no labels: use `owner`, `description` and the file's directory, and delete this line"
OUTPUT = (
    "the agent's last message is the result of the run: say in the prompt what to write, or declare `result: {schema: ...}`, "
    "and delete this line"
)
CONDITION = (
    "a condition belongs to a webhook: write `when: \"@.action == 'opened'\"` in its `config`; put other conditions into the "
    "prompt"
)
MOVE_UP = "move the keys below it to the top of the file"
OR_PROGRAM = "a task that is a program has `agentRuntime: command` and `command:`"
VERDICTS = (
    "write `verdict: accepted` for a delivery that starts a run, or `verdict: filtered` for one that starts none: both are "
    "answered with 202"
)
_DATES = (
    "a schedule has no first or last day: write `enabled: false` in the trigger while it must not fire, and delete this line"
)
_ON_FILTER = "write `when: \"@.ref == 'refs/heads/main'\"`"
_NO_AGENT = (
    "a test starts no agent: write `params:` for what the run gets, or `promptContains:` for its prompt, and delete this line"
)
_EACH_DELIVERY = (
    "each delivery that passes starts a run: limit them by `startLimit: {count: 20, per: 1h}` at the top of the file, and "
    "delete this line"
)
_OF_POLICY = (
    "the policy limits what a task may spend in a day or a month: write it under `ceilings` in `_policy.yaml`, or "
    "`startLimit: {count: 10, per: 24h}` here, and delete this line"
)
ONE_SCHEDULE = "a task has one schedule: write one file for each zone or time, with `extends:` for the common keys"

ROWS: tuple[KeyRow, ...] = (
    KeyRow(TASK, "monthusd dayusd monthlyusd dailyusd monthlybudget dailybudget monthlybudgetusd", advice=_OF_POLICY),
    # Switches.
    KeyRow(
        TASK,
        "disabled muted disable paused pause suspend suspended skip skipped off inactive ispaused ispauseduponcreation "
        "onhold archived stopped shutdown draft",
        "enabled", to.inverted,
    ),
    KeyRow(TASK, "active isactive enable isenabled autoregister", "enabled", to.switch),
    KeyRow(
        TRIGGER,
        "disabled disable paused pause suspend suspended skip off inactive ispaused muted stopped",
        "enabled", to.inverted,
    ),
    KeyRow(TRIGGER, "active isactive enable isenabled", "enabled", to.switch),
    KeyRow(SCHEDULE, "disabled disable paused pause suspend suspended skip off inactive ispaused", "^enabled", to.inverted),
    KeyRow(SCHEDULE, "active isactive enable isenabled enabled", "^enabled", to.switch),
    KeyRow(WEBHOOK, "disabled disable paused pause suspend suspended skip off inactive ispaused", "^enabled", to.inverted),
    KeyRow(WEBHOOK, "active isactive enable isenabled enabled", "^enabled", to.switch),
    KeyRow(MANUAL, "disabled disable paused suspend skip off inactive", "^enabled", to.inverted),
    KeyRow(MANUAL, "active isactive enable isenabled enabled", "^enabled", to.switch),
    KeyRow(
        TASK,
        "if only except unless rules condition when skipif skipifmatch skipifnomatch skipifsuccessful preconditions "
        "precondition runif "
        "conditions stopstrategy",
        advice=CONDITION,
    ),
    KeyRow(
        TASK,
        "manualapproval approval approvals requireapproval askforapproval approvalpolicy waitforapproval "
        "permissionmode dangerouslyskippermissions roles bots",
        advice="a run cannot ask for approval: let the prompt only propose changes, and give it read-only "
               "secrets; then delete this line",
    ),
    KeyRow(
        TASK,
        "interruptible autocancel cancelinprogress autocancelpreviouspipelines",
        advice="a newer run takes the place of one that waits where both have one key: write "
        "`dedupe: {key: \"{{NAME}}\", onDuplicate: replace}`, with parameters of the task in the key, and delete this line",
    ),
    # Time limits.
    KeyRow(
        TASK,
        "timeoutminutes timeoutinmin timeoutmin timeoutinminutes timeoutmins maxminutes maxruntimeminutes",
        "timeout", to.minutes,
    ),
    KeyRow(
        TASK,
        "timeoutseconds hardtimeout stoptimeout starttoclosetimeout scheduletoclosetimeout async "
        "timeoutinseconds timeoutsecs timeoutsec activedeadlineseconds executiontimeout maxruntime "
        "maxexecutiontime deadline dagruntimeout runtimeout timelimit timelimitseconds maxduration jobtimeout "
        "duration tasktimeout maxtime deadlineseconds sessiontimeout timeouts timeoutstartsec runtimemaxsec "
        "maxrunseconds killtimeout executiontimeoutseconds maxrunduration walltime softtimelimit",
        "timeout", to.seconds,
    ),
    KeyRow(TASK, "timeoutms timeoutmillis timeoutmilliseconds maxruntimems", "timeout", to.milliseconds),
    KeyRow(TASK, "timeouthours maxhours", "timeout", to.hours),
    KeyRow(
        TASK,
        "nooutputtimeout idletimeout inactivitytimeout silencetimeout heartbeattimeout stalledtimeout",
        "stallTimeout", to.seconds,
    ),
    KeyRow(TASK, "idletimeoutminutes stalltimeoutminutes", "stallTimeout", to.minutes),
    KeyRow(
        TASK,
        "livenessprobe readinessprobe startupprobe healthcheck",
        "stallTimeout", to.probed, "a run is ended that prints nothing for so long",
    ),
    KeyRow(
        TASK,
        "sla slamisscallback slos expectedduration",
        advice="Optio does not warn of a late run: write `timeout: 20m` to end it, and alert on the metric "
        "`optio_slots_total`; then delete this line",
    ),
    KeyRow(
        TASK,
        "terminationgraceperiodseconds maxcleanuptimesec stopsignal signalonstop stopgraceperiod timeoutstopsec killsignal "
        "gracefultimeout",
        advice="a run that is stopped has 10 s to end: delete this line",
    ),
    # Retries.
    KeyRow(
        TASK,
        "retry retries retrycount numretries backofflimit retrypolicy retrystrategy retrylimit onerrorretry maxretry "
        "retryonfail",
        "maxRetries", to.retries,
    ),
    KeyRow(
        TASK,
        "maxattempts maxreceivecount maxdeliver attempts maxtries tries maximumattempts",
        "maxRetries", to.retries_of_attempts, "the first attempt is not a retry",
    ),
    KeyRow(
        TASK,
        "restartsec minbackoffduration maxbackoffduration",
        advice=NO_PAUSE,
    ),
    KeyRow(
        TASK,
        "retrydelay retryinterval retryintervalsec retrybackoff backoff retryexponentialbackoff "
        "maxretrydelay retryjitterfactor waitbetweentries restartwaitsec retrywait",
        advice=NO_PAUSE,
    ),
    KeyRow(TASK, "restartpolicy restart", "maxRetries", to.retries_of_policy),
    KeyRow(
        TASK,
        "continueonerror continueonfail allowfailure failfast failstop onerror ignoreerrors",
        advice="a failed run stops no others: delete this line; for a single attempt write `maxRetries: 0`",
    ),
    # Limits of runs, costs and turns.
    KeyRow(
        TASK,
        "concurrency lock semaphore resourcegroup disableconcurrentbuilds nonoverlapping throttleconcurrentbuilds "
        "maxconcurrency concurrencylimit maxconcurrentruns maxactiveruns maxactivetasks maxactivesteps "
        "parallelism parallel maxparallel maxinstances singleton mutex synchronization concurrentruns concurrent "
        "allowconcurrent maxparallelism maxrunning completions maxworkers",
        "maxConcurrent", to.concurrency,
    ),
    KeyRow(TASK, "concurrencypolicy overlappolicy overlap", "schedule:overlap", to.overlapping),
    KeyRow(
        TASK,
        "ratelimit throttle throttling maxruns runlimit maxtotaltasks quota limits",
        "startLimit", to.starts,
    ),
    KeyRow(TASK, "maxrunsperday dailylimit", "startLimit", to.starts_a_day),
    KeyRow(TASK, "maxrunsperhour", "startLimit", to.starts_an_hour),
    KeyRow(TASK, "stopafter", "timeout", to.seconds),
    KeyRow(TASK, "startlimitburst", "startLimit", to.starts),
    KeyRow(
        TASK,
        "debounce dedup deduplicate deduplication idempotencykey uniquekey memoize cachekey cachekeyfn cachepolicy "
        "concurrencygroup concurrencykey skipduplicate",
        advice="write `dedupe: {key: \"{{NAME}}\"}` with the parameter that makes two runs the same",
    ),
    KeyRow(
        TASK,
        "priorityweight priorityclassname priorityclass podpriority podpriorityclassname",
        "priority", to.whole, "the highest of -100 to 100 starts first",
    ),
    KeyRow(
        TASK,
        "maxcost maxcostusd budgetlimit costlimit maxbudget maxbudgetusd maxspend spendlimit maxprice "
        "budgetdollars cost maxusd usdlimit maxspendusd costbudget",
        "budgetUsd", to.money,
    ),
    KeyRow(
        TASK,
        "maxtokens tokenlimit maxoutputtokens modelmaxoutputtokens maxthinkingtokens contextwindow "
        "modelcontextwindow tokenbudget",
        advice="no key bounds tokens: write `budgetUsd: \"1.00\"` and `maxTurns: 20`",
    ),
    KeyRow(
        TASK,
        "turns turnlimit maxiterations maxsteps iterations iterationlimit steplimit maxagentturns maxturncount "
        "maxtoolcalls",
        "maxTurns", to.whole,
    ),
    # The agent and its prompt.
    KeyRow(
        TASK,
        "prompt instructions instruction systemprompt appendsystemprompt directprompt custominstructions message "
        "task goal query content text body userprompt promptbody basetext developerinstructions initialprompt",
        "promptTemplate", to.unchanged,
    ),
    KeyRow(
        TASK,
        "promptpath instructionsfile experimentalinstructionsfile modelinstructionsfile templatefile promptfilepath "
        "systempromptfile",
        "promptFile", to.unchanged,
    ),
    KeyRow(
        TASK,
        "runtime agent engine agenttype cli provider modelprovider tool assistant aiengine agentname",
        "agentRuntime", to.runtime,
    ),
    KeyRow(TASK, "llm modelname modelid fallbackmodel aimodel", "model", to.text),
    KeyRow(
        TASK,
        "temperature topp effort reasoningeffort modelreasoningeffort modelreasoningsummary thinking modelverbosity "
        "outputstyle verbose debug strict features experimental hideagentreasoning cacheprompt enabletodo",
        advice="Optio does not tune how an agent thinks: choose another `model:`, or say it in the prompt; then "
        "delete this line",
    ),
    KeyRow(
        TASK, "ssh sshconfig remotehost",
        advice="a run works on its own machine: let a command reach the other one with a key under `environment.secrets`, and "
        "delete this line",
    ),
    KeyRow(
        TASK,
        "tools allowedtools disallowedtools allowtools denytools toolsallowed agents subagents skills "
        "plugins enableallprojectmcpservers websearch commandsallowed extensions enabledplugins "
        "threatdetection lockdown",
        advice=TOOLS,
    ),
    KeyRow(TASK, "mcpservers mcp", advice=_MCP),
    KeyRow(TASK, "safeoutputs", advice=_POSTS),
    KeyRow(
        TASK,
        "permissions permission accesscontrol rbac capabilities scopes security forceloginmethod callerpolicy runas",
        advice=RIGHTS,
    ),
    KeyRow(TASK, "sandbox sandboxmode sandboxworkspacewrite", advice=_SANDBOX),
    KeyRow(
        TASK,
        "secretmasking outputs output outputformat artifacts artifact results xcompush "
        "persistresult lasttext archivelogs artifactrepositoryref saveexecutionprogress",
        advice=OUTPUT,
    ),
    KeyRow(
        TASK,
        "apikey anthropicapikey openaiapikey apikeyhelper credentials credential auth token githubtoken "
        "anthropicauthtoken claudecodeoauthtoken envkey smtpcredentials",
        advice=KEY,
    ),
    KeyRow(
        TASK,
        "hooks posttooluse pretooluse stop posttask prehooks posthooks onexit handleron finally listeners "
        "afterexecution callbacks poststeps after onsuccess oncompletion oncancellation onfinish onstart onend "
        "onsuccesscallback onretrycallback lifecycle poststop triggerrule execstartpost execstop execstoppost afterscript "
        "post always cleanup teardown",
        advice=HOOKS,
    ),
    KeyRow(
        TASK,
        "notify notifications notification alerts alert alerting email emails mailon emailonfailure emailonretry "
        "errormail infomail mailonerror slack slackchannel smtp onfailure onerrornotify onfailurecallback errors "
        "errorworkflow errorhandler webhookurl callbackurl notifyonfailure reporter pagerduty subscribers",
        advice=NOTIFY,
    ),
    KeyRow(
        TASK,
        "needs requiredby wantedby wants dependson depends dependencies upstream downstream waitfor requires",
        advice=ORDER,
    ),
    KeyRow(TASK, "dependsonpast waitfordownstream", advice=_PAST),
    KeyRow(
        TASK, "resume session sessionid continue continuesession conversation conversationid",
        advice="each run is a new session, in which only a retry goes on: delete this line",
    ),
    KeyRow(TASK, "next then nextstep nexttask goto continuewith downstreamtask ontaskfinish", advice=_NEXT),
    KeyRow(
        TASK,
        "jobs tasks stages pipeline workflow workflows templates entrypoint dag nodes matrix strategy dags functions "
        "subtasks foreach loop repeat repeatpolicy withitems withparam",
        advice=JOBS,
    ),
    KeyRow(
        TASK,
        "uses imports import include includes includefrom template templateref workflowtemplateref inherits inherit "
        "base baseconfig from agentconfigref profile profiles settingsources taskdefaults plugindefaults parent "
        "taskref preset",
        "", to.unchanged, IMPORT,
    ),
    # Names, descriptions and labels.
    KeyRow(
        TASK,
        "title displayname label workflowname flowname dagdisplayname dagname runname jobname taskname",
        "name",
        to.text,
    ),
    KeyRow(
        TASK,
        "dagid workflowid flowid taskid slugname uid ref identifier trackerid",
        "id", to.text, "a-z, 0-9 and single dashes",
    ),
    KeyRow(
        TASK,
        "maintainer maintainers owners team teams contact author authors responsible createdby codeowners ownerlinks "
        "assignee assignees",
        "owner", to.text,
    ),
    KeyRow(
        TASK,
        "summary docs doc docmd documentation readme notes comment comments about help purpose",
        "description",
        to.text,
    ),
    KeyRow(
        TASK,
        "tags labels annotations metalabels group category folder color colour icon pindata versionid "
        "displayorder trackingid project podmetadata",
        advice=WORDS,
    ),
    KeyRow(
        TASK,
        "version schemaversion specversion lang dsl syntax",
        advice="the version of the format is `apiVersion: optio/v1`; a task's own versions are those of git: delete "
        "this line",
    ),
    KeyRow(TASK, "kind", "type", to.standalone),
    KeyRow(TASK, "metadata", advice="write `name:` and the other keys of a task at the top of the file"),
    KeyRow(
        TASK,
        "spec defaultargs settings config configuration options tasktemplate jobtemplate workflowspec podspec "
        "defaults taskspec runconfig jobspec job workflowdefaults deployment deployments flow",
        advice=MOVE_UP,
    ),
    # Triggers.
    KeyRow(
        TASK,
        "cron crontab cronexpression schedule schedules scheduleinterval schedulecron timetable cronschedule "
        "scheduled scheduleexpression oncalendar rrule crons cronspec cronstring",
        "schedule:cronExpression", to.cron,
    ),
    KeyRow(TASK, "timezone tz timezoneid zone schedulertimezone", "schedule:timezone", to.text),
    KeyRow(
        TASK,
        "catchup catchupwindow misfirepolicy misfire startingdeadlineseconds backfill recovermissedschedules "
        "misfiregracetime coalesce",
        "schedule:misfire", to.catch_up,
    ),
    KeyRow(TASK, "persistent", "schedule:misfire", to.caught_up_once),
    KeyRow(
        TASK,
        "interval every rate frequency pollinterval period repeatevery repeatinterval "
        "onunitactivesec startinterval intervalseconds",
        "schedule:cronExpression", to.cron,
    ),
    KeyRow(TASK, "delay delaysec delayseconds countdown startdelay", advice=_NO_DELAY),
    KeyRow(WEBHOOK, "delay delaysec delayseconds countdown startdelay", advice=_NO_DELAY),
    KeyRow(TASK, "ttl timetolive", advice=_LIVES),
    KeyRow(ENVIRONMENT, "ttl timetolive", advice=_LIVES),
    KeyRow(
        TASK,
        "startdate enddate startat endat runat until notbefore notafter expires expiresat validfrom validuntil "
        "starttime endtime",
        advice=_DATES,
    ),
    KeyRow(
        TASK,
        "webhook webhooks hook http endpoint path url route webhookid responsemode httpmethod",
        "webhook:path",
        to.text,
    ),
    KeyRow(TASK, "events event eventtypes", "webhook:events", to.names),
    KeyRow(TASK, "on trigger startson triggeredby startwhen", "triggers", to.triggers),
    KeyRow(TASK, "workflowdispatch dispatch manual button", advice="write `triggers: [{type: manual}]`"),
    KeyRow(
        TASK,
        "push issues issuecomment release workflowrun githubissues githubpullrequests repositorydispatch workflowcall",
        advice="write `triggers: [{type: webhook, config: {path: my-path, scheme: github, events: [push], secret: "
        "{name: NAME}}}]`",
    ),
    KeyRow(TASK, "signature signingsecret webhooksecret hmacsecret", "webhook:secret", to.secret),
    # Parameters, variables, secrets and the environment.
    KeyRow(
        TASK,
        "repo repourl repository repositoryurl gitref upstreamrepo source",
        "environment.setupCommands", to.clone, "a standalone task has no repository",
    ),
    KeyRow(
        TASK,
        "branch repobranch basebranch branches",
        advice="a standalone task has no repository: write `git clone -b BRANCH URL` under "
        "`environment.setupCommands`, and delete this line",
    ),
    KeyRow(
        TASK,
        "automerge pullrequest createpr createpullrequest reviewers",
        advice="a standalone task has no repository: say in the prompt what to do with a change, and delete this "
        "line",
    ),
    KeyRow(
        TASK,
        "params parameters inputs input with arguments schema inputschema parameterschema parametersschema "
        "argumentschema parameter enforceparameterschema",
        "paramsSchema", to.schema,
    ),
    KeyRow(
        TASK, "responseformat structuredoutput structuredoutputs responsemimetype",
        advice="declare what a run yields: write `result: {schema: ...}` with the JSON Schema of it, and delete this line",
    ),
    KeyRow(TASK, "outputschema resultschema responseschema returnschema outputjsonschema jsonschema", "result.schema"),
    KeyRow(TASK, "variables vars var values context userdata", "paramsSchema", to.schema),
    KeyRow(
        TASK,
        "environmentvariables environmentvars environ envvars envs shellenvironmentpolicy envvar",
        "environment.env", to.mapping_of_texts,
    ),
    KeyRow(TASK, "secret secretrefs secretenv secretkeys secretnames", "environment.secrets", to.secret_names),
    KeyRow(
        TASK,
        "steps script scripts run setup setupsteps init initialize initscript beforecommands beforescript before "
        "prerun presteps prestart install prepare bootstrap build runcommands initcontainers onstartup precommands "
        "cmd setupscript packages requirements requirementsfile pipinstall npminstall runtimes",
        "environment.setupCommands", to.commands, OR_PROGRAM,
    ),
    KeyRow(
        TASK,
        "entrypointcommand exec executable program args argv bashcommand commandline execstart runcommand startcommand "
        "dockercommand containercommand",
        "command", to.program, "with `agentRuntime: command`",
    ),
    KeyRow(TASK, "execstartpre", "environment.setupCommands", to.commands),
    KeyRow(
        TASK,
        "container containerimage dockerimage docker baseimage imagename imagetag runson workerimage imageref runner "
        "sandboximage",
        "environment.image", to.image,
    ),
    KeyRow(TASK, "containers sidecars services", "environment.image", to.image, "a run is one container"),
    KeyRow(
        TASK,
        "imagepullpolicy imagepullsecrets registryauths nodeselector affinity tolerations schedulername dnspolicy "
        "dnsconfig hostaliases nodename "
        "runtimeclassname topologyspreadconstraints podtemplate podspecpatch podoverrides jobvariables",
        advice=PLACED,
    ),
    KeyRow(
        TASK,
        "workerpool workpool workqueue workerselector workergroup queue pool executor taskrunner executorconfig workqueuename "
        "poolslots",
        advice=_POOL,
    ),
    KeyRow(TASK, "resource compute deploy", "environment.resources", to.amounts),
    KeyRow(TASK, "requests", "environment.resources.requests", to.amounts),
    KeyRow(
        TASK,
        "memlimit memorylimit memorymb memorymib memorymax memorysize mem ram memoryinmb", "environment.resources.memory",
        to.memory,
    ),
    KeyRow(TASK, "cpus cpulimit cpuquota vcpu vcpus cores cpucount", "environment.resources.cpu", to.cores),
    KeyRow(
        TASK, "machine instancetype size machinetype resourceclass vmsize plan",
        advice="a task names amounts, and no kind of machine: write `environment: {resources: {cpu: \"1\", memory: 2Gi}}`, and "
        "delete this line",
    ),
    KeyRow(
        TASK,
        "allowedhosts alloweddomains hosts domains networkaccess firewall allowlist whitelist outbound egressrules "
        "internet",
        "environment.network.egress", to.hosts,
    ),
    KeyRow(
        TASK,
        "workingdirectory workingdir workdir cwd dir adddir additionaldirectories storage "
        "workspace workspaceref cache cachememory files checkout persistence pull pullsteps datasets "
        "repomemory templatesearchpath artifactpaths",
        advice=_FILES,
    ),
    KeyRow(
        TASK,
        "histretentiondays retention retentiondays "
        "successfuljobshistorylimit failedjobshistorylimit logdir cleanupperioddays historylimit retentionpolicy "
        "logretention cacheexpiration history savedataerrorexecution logs loglevel logprints keeplogs",
        advice=_KEPT,
    ),
    KeyRow(
        TASK,
        "keepfailed keeponfailure ttlsecondsafterfinished ttlstrategy podgc keeppod",
        "environment.keepFailed", to.seconds, "of a run that succeeded no pod stays",
    ),
    KeyRow(TASK, "warmpool minreplicas replicas poolsize minready prewarm warmpods", "warmPoolSize", to.whole),
    KeyRow(
        TASK,
        "otel tracing metrics telemetry statusline ports port "
        "executionorder staticdata meta orientation defaultview tty stdin",
        advice="a task has no such key: metrics and traces are set for the server, so delete this line",
    ),
    KeyRow(TASK, "testcases samples examples fixtures mocks test checks assertions", "tests", to.unchanged),
    # Below `environment`.
    KeyRow(
        ENVIRONMENT,
        "variables vars environmentvariables envvars envs environment values",
        "env", to.mapping_of_texts,
    ),
    KeyRow(ENVIRONMENT, "envfile dotenv environmentfile envfiles", advice=_NO_ENV_FILE),
    KeyRow(TASK, "envfile dotenv environmentfile envfiles", advice=_NO_ENV_FILE),
    KeyRow(TASK, "envfrom vault", advice=_EACH_NAMED),
    KeyRow(ENVIRONMENT, "envfrom", "secrets", to.secrets_of, advice="one name for each secret, which is a variable of the run"),
    KeyRow(ENVIRONMENT, "secretrefs secret secretenv credentials secretnames", "secrets", to.secret_names),
    KeyRow(
        ENVIRONMENT,
        "commands setup steps script scripts run init before beforecommands beforescript setupscript install "
        "packages prerun initcommands precommands initcontainers postcreatecommand oncreatecommand setupcommand",
        "setupCommands", to.commands,
    ),
    KeyRow(ENVIRONMENT, "container from containerimage dockerimage docker baseimage imagename base runson", "image", to.image),
    KeyRow(
        ENVIRONMENT,
        "egress allowedhosts alloweddomains hosts domains allowlist firewall networkpolicy internet allow allowed",
        "network.egress", to.hosts,
    ),
    KeyRow(ENVIRONMENT, "apt aptpackages systempackages aptget", advice=_IMAGE),
    KeyRow(ENVIRONMENT, "pip pippackages pipinstall pythonpackages", "setupCommands", to.packages("pip install")),
    KeyRow(ENVIRONMENT, "npm npmpackages npminstall", "setupCommands", to.packages("npm install -g")),
    KeyRow(ENVIRONMENT, "python pythonversion", "image", to.version_of("python")),
    KeyRow(ENVIRONMENT, "node nodejs nodeversion", "image", to.version_of("node")),
    KeyRow(ENVIRONMENT, "go golang goversion", "image", to.version_of("golang")),
    KeyRow(ENVIRONMENT, "resourceclass instancetype machinetype vmsize size", advice=PLACED),
    KeyRow(
        ENVIRONMENT, "cpu cpus cpulimit cpuquota cpucount vcpu vcpus cores cpulimits", "resources.cpu", to.cores
    ),
    KeyRow(
        ENVIRONMENT,
        "memory mem ram memorylimit memlimit memorymax memorysize memorymb memorymib memoryinmb memorymbs memoryswap "
        "memswaplimit",
        "resources.memory", to.memory,
    ),
    KeyRow(ENVIRONMENT, "memreservation memoryreservation memoryrequest", "resources.requests.memory", to.memory),
    KeyRow(ENVIRONMENT, "cpureservation cpurequest", "resources.requests.cpu", to.cores),
    KeyRow(ENVIRONMENT, "limits", "resources.limits", to.amounts),
    KeyRow(ENVIRONMENT, "requests reservations", "resources.requests", to.amounts),
    KeyRow(ENVIRONMENT, "deploy resource compute", "resources", to.amounts),
    KeyRow(
        ENVIRONMENT,
        "workingdirectory workingdir workdir cwd dir workspace files checkout",
        advice=_FILES,
    ),
    KeyRow(ENVIRONMENT, "volumes volumemounts mounts", advice=_VOLUMES),
    KeyRow(TASK, "volumes volumemounts mounts", advice=_VOLUMES),
    KeyRow(ENVIRONMENT, "imagepullpolicy nodeselector affinity tolerations runner machine platform", advice=PLACED),
    KeyRow(
        ENVIRONMENT,
        "name url deployment",
        advice="`environment` says where the agent runs, and has no name: write `image:`, or delete this line",
    ),
    KeyRow(
        ENVIRONMENT,
        "keeponfailure debugpod keep ttlafterfailure ttlsecondsafterfinished ttlstrategy podgc "
        "secondsafterfailure keeppod keepalive",
        "keepFailed", to.seconds, "of a run that succeeded no pod stays",
    ),
    KeyRow(ENVIRONMENT, "become becomeuser becomemethod sudo user root runasgroup group", advice=_NO_RIGHTS),
    KeyRow(TASK, "become becomeuser becomemethod sudo user root username", advice=_NO_RIGHTS),
    KeyRow(ENVIRONMENT, "permissions", advice=RIGHTS),
    KeyRow(ENVIRONMENT, "serviceaccount serviceaccountname", advice=_ACCOUNT),
    KeyRow(TASK, "serviceaccount serviceaccountname", advice=_ACCOUNT),
    KeyRow(ENVIRONMENT, "sandbox sandboxmode", advice=_SANDBOX),
    KeyRow(ENVIRONMENT, "tools allowedtools", advice=TOOLS),
    KeyRow(ENVIRONMENT, "mcpservers mcp", advice=_MCP),
    KeyRow(ENVIRONMENT, "ports expose networkmode healthcheck restart dependson", advice=_NO_SERVICE),
    KeyRow(
        NETWORK,
        "allowed allow hosts domains alloweddomains allowedhosts allowlist whitelist outbound egressrules",
        "egress", to.hosts,
    ),
    KeyRow(
        NETWORK,
        "blocked deny denylist disabled none ingress firewall mode policy networkaccess proxy isolated",
        advice="a run reaches only the hosts in `egress` and accepts no connections: list the hosts, or write "
               "`egress: []` for none; then delete this line",
    ),
    KeyRow(RESOURCES, "mem ram memorylimit memlimit memorymax memorysize", "memory", to.memory),
    KeyRow(RESOURCES, "reservations request reserved", "requests", to.amounts),
    KeyRow(RESOURCES, "limit max", "limits", to.amounts),
    KeyRow(RESOURCES, "memoryrequest memrequest requestmemory memoryreservation", "requests.memory", to.memory),
    KeyRow(RESOURCES, "cpurequest requestcpu cpureservation", "requests.cpu", to.cores),
    KeyRow(RESOURCES, "memorymb memorymib memoryinmb", "memory", to.mebibytes),
    KeyRow(RESOURCES, "cpus cores cpulimit vcpu vcpus cpucount cpuquota", "cpu", to.cores),
    KeyRow(
        RESOURCES,
        "gpu gpus nvidia.com/gpu ephemeralstorage storage disk",
        advice="a task has amounts of `cpu` and `memory` alone, and its pod no devices: delete this line",
    ),
    # Quotas and deduplication keys.
    KeyRow(
        LIMIT,
        "requests burst calls executions invocations tokens max limit runs maxruns times number amount starts",
        "count", to.whole,
    ),
    KeyRow(LIMIT, "window period interval every within unit duration seconds", "per", to.seconds),
    KeyRow(LIMIT, "minutes", "per", to.minutes),
    KeyRow(LIMIT, "hours", "per", to.hours),
    KeyRow(
        DEDUPE,
        "id expression on by field fields uniquekey idempotencykey template group keys columns params",
        "key", to.key,
    ),
    KeyRow(DEDUPE, "cancelinprogress cancelprevious replaceexisting", "onDuplicate", to.replacing),
    KeyRow(DEDUPE, "ttl period interval within duration for expires", "window", to.seconds),
    KeyRow(
        DEDUPE,
        "strategy policy action mode behavior behaviour collisionstrategy onconflict",
        "onDuplicate", to.on_duplicate,
    ),
    # In the config of a schedule.
    KeyRow(SCHEDULE, CLOCK, "cronExpression", to.cron),
    KeyRow(
        SCHEDULE,
        "cron spec calendars calendar intervals everyweekday crontab schedule schedules expression scheduleinterval "
        "interval expr rule pattern cronstring rrule "
        "oncalendar scheduleexpression cronschedule cronspec onunitactivesec onbootsec "
        "onactivesec startinterval startcalendarinterval",
        "cronExpression", to.cron,
    ),
    KeyRow(SCHEDULE, "tz zone timezoneid scheduleexpressiontimezone timezonename crontz executiontimezone scheduletimezone "
        "crontimezone", "timezone", to.text),
    KeyRow(
        SCHEDULE,
        "params variables vars payload body data parameters inputs mapping values arguments with args input",
        "paramMapping", to.mapping_of_values,
    ),
    KeyRow(
        SCHEDULE,
        "concurrencypolicy overlappolicy allowconcurrent collisionstrategy preventoverlap singleton",
        "overlap", to.overlapping,
    ),
    KeyRow(
        SCHEDULE,
        "catchup catchupwindow misfirepolicy recovermissedschedules backfill onmissed misfireinstruction "
        "catchuppolicy",
        "misfire", to.catch_up,
    ),
    KeyRow(
        SCHEDULE,
        "startingdeadlineseconds misfiregracetime latemaximumdelay maximumeventageinseconds deadline",
        "misfire", to.late,
        "a slot that is missed by more than a minute is then skipped; `last` runs the last one, however late",
    ),
    KeyRow(SCHEDULE, "persistent coalesce runonstart anacron runmissed", "misfire", to.caught_up_once),
    KeyRow(SCHEDULE, "maxcatchupruns maxbackfill maxmisfires", "maxCatchUp", to.whole),
    KeyRow(
        SCHEDULE,
        "startdate enddate startat endat until stopafter anchordate notbefore expires starttime endtime validfrom "
        "validuntil",
        advice=_DATES,
    ),
    KeyRow(
        SCHEDULE,
        "jitter splay randomizeddelaysec flexibletimewindow accuracysec randomdelay randomoffset fixedrandomdelay "
        "spread stagger",
        advice="a schedule fires at its minute: write another minute into `cronExpression` where tasks meet, and "
        "delete this line",
    ),
    KeyRow(SCHEDULE, "successfuljobshistorylimit failedjobshistorylimit", advice=_KEPT),
    KeyRow(
        SCHEDULE,
        "when skipholidays skipweekends holidays exclude excludedates blackout only if condition conditions "
        "scheduleconditions filter dayor",
        advice="a schedule has no condition: say in the prompt when there is nothing to do, and delete this line",
    ),
    KeyRow(SCHEDULE, "timezones crons", advice=ONE_SCHEDULE),
    KeyRow(SCHEDULE, "name id title description label", advice=_NO_NAME),
    KeyRow(
        SCHEDULE, "dependsonpast waitfordownstream",
        advice="write `overlap: queue`, with which a run waits for the one before it, and delete this line",
    ),
    KeyRow(SCHEDULE, "overlapping allowoverlap allowoverlapping canoverlap", "overlap", to.allowed_to_overlap),
    KeyRow(SCHEDULE, "nooverlap withoutoverlapping skipifrunning prohibitoverlap", "overlap", to.overlapping),
    KeyRow(SCHEDULE, "state status", "^enabled", to.state),
    KeyRow(WEBHOOK, "state status", "^enabled", to.state),
    KeyRow(TRIGGER, "state status", "enabled", to.state),
    KeyRow(TASK, "serial exclusive runonce", "maxConcurrent", to.alone),
    KeyRow(TASK, "state", "enabled", to.state),
    # In the config of a webhook.
    KeyRow(
        WEBHOOK,
        "provider source authtype hmac vendor type auth signature authentication signaturetype verification service",
        "scheme", to.scheme,
    ),
    KeyRow(
        WEBHOOK,
        "filter jq jsonata interceptors rego predicates condition if only conditions expression match jmespath cel "
        "filters",
        "when", to.condition,
    ),
    KeyRow(
        WEBHOOK,
        "params data parameters inputs mapping bindings fields extract payload transform variables body",
        "paramMapping", to.mapping_of_values,
    ),
    KeyRow(
        WEBHOOK,
        "rules triggerconditions rule eventpattern jsonlogic filterexpression eventfilter predicate query cond expr", "when",
        to.condition,
    ),
    KeyRow(WEBHOOK, "url endpoint route hook uri slug webhookid id name", "path", to.text),
    KeyRow(WEBHOOK, "on eventtypes event eventtype", "events", to.names),
    KeyRow(
        WEBHOOK,
        "secretref hmackey signingkey webhooktoken secrettoken secretkeyref secretname signingsecret webhooksecret "
        "hmacsecret token sharedsecret secretkey key "
        "password apikey",
        "secret", to.secret,
    ),
    KeyRow(WEBHOOK, "oldsecret secretold secondarysecret", "previousSecret", to.secret),
    KeyRow(WEBHOOK, "header headername signaturename hmacheader", "signatureHeader", to.text),
    KeyRow(WEBHOOK, "idempotencyheader idheader deliveryid", "deliveryHeader", to.text),
    KeyRow(WEBHOOK, "repeatinterval groupinterval groupwait", advice=_EACH_DELIVERY),
    KeyRow(WEBHOOK, "branch branches refs ref", advice=_ON_FILTER),
    KeyRow(WEBHOOK, "branchesignore", advice="write `when: \"@.ref != 'refs/heads/main'\"`"),
    KeyRow(WEBHOOK, "types action actions activity", "when", to.one_of_actions),
    KeyRow(WEBHOOK, "tags", advice="write `when: \"@.ref_type == 'tag'\"` with `events: [create]`"),
    KeyRow(WEBHOOK, "labels label", advice="write `when: \"@.issue.labels[?@.name == 'bug']\"`"),
    KeyRow(
        WEBHOOK,
        "paths",
        advice="a push lists its files by commit: write `when: \"@.commits[*]['added','modified'][?search(@, '^src/')]\"`",
    ),
    KeyRow(
        WEBHOOK,
        "pathsignore",
        advice="a push lists its files by commit: write `when: \"@.commits[*]['added','modified'][?!search(@, '^docs/')]\"`",
    ),
    KeyRow(WEBHOOK, "repository repo repositories", advice="write `when: \"@.repository.full_name == 'acme/hello'\"`"),
    KeyRow(
        WEBHOOK,
        "user usernames sender senders users actor actors author roles",
        advice="write `when: \"@.sender.login == 'NAME'\"`",
    ),
    KeyRow(WEBHOOK, "ratelimit limit throttle", advice="write `startLimit: {count: 10, per: 1h}` at the top of the file"),
    KeyRow(WEBHOOK, "public anonymous noauth insecure allowunsigned", "unsigned", to.switch),
    KeyRow(WEBHOOK, "method httpmethod methods", advice="deliveries come by POST: delete this line"),
    KeyRow(
        WEBHOOK,
        "response responsecode cors contenttype accept port host responsemode respond async timeout sync wait",
        advice="a delivery is answered with 202 before its run begins: delete this line",
    ),
    KeyRow(WEBHOOK, "algorithm hashalgorithm digest algo", advice="signatures are HMAC-SHA256: delete this line"),
    KeyRow(WEBHOOK, "encoding", "signatureEncoding", to.text),
    KeyRow(
        WEBHOOK,
        "dedupe debounce idempotencykey",
        advice="write `dedupe: {key: \"{{NAME}}\"}` at the top of the file, with the parameter that makes two runs "
        "the same",
    ),
    # Beside the config of a trigger.
    KeyRow(TRIGGER, "name id title description label slug", advice=_NO_NAME),
    KeyRow(TRIGGER, "with options settings spec properties", "config", to.unchanged),
    KeyRow(TRIGGER, "kind", "type", to.text),
    # In the declaration of a result.
    KeyRow(RESULT, "strict validate enforce", advice="a result is always compared with its schema: delete this line"),
    KeyRow(RESULT, "jsonschema outputschema responseschema format", "schema", to.unchanged),
    KeyRow(RESULT, "optional nullable", "required", to.inverted),
    KeyRow(
        RESULT, "name description title",
        advice="a result has no name: write a `description` in its schema, and delete this line",
    ),
    # In tests.
    KeyRow(TEST, "payload body event eventtype eventname file fixture sample", "webhook", to.unchanged),
    KeyRow(TEST, "input inputs parameters args arguments with given", "params", to.unchanged),
    KeyRow(TEST, "expected then want assert asserts expectation output should", "expect", to.unchanged),
    KeyRow(TEST, "at time cron when", "schedule", to.unchanged),
    KeyRow(TEST, "description title label id", "name", to.unchanged),
    KeyRow(EXPECT, "status state outcome decision code statuscode", "verdict", to.verdict),
    KeyRow(EXPECT, "result answer response completion returns", advice=_NO_AGENT),
    KeyRow(EXPECT, "parameters inputs values param args", "params", to.unchanged),
    KeyRow(EXPECT, "contains includes prompthas promptincludes promptmatches output text", "promptContains", to.text),
    KeyRow(EXPECT, "reason message errors errorcontains", "error", to.text),
    KeyRow(EXPECT, "snapshot promptfile golden", "prompt", to.unchanged),
)  # fmt: skip
# Other keys, by a part of their name; tried last.
STEMS: tuple[KeyStem, ...] = (
    KeyStem(r"concurren|parallel", KeyRow(TASK, "", "maxConcurrent", to.concurrency)),
    KeyStem(
        r"^(?:is|set)?(?:disab|paus|suspend|inactive|mute)|(?:disabled|paused|suspended)$",
        KeyRow(TASK, "", "enabled", to.inverted),
    ),
    KeyStem(r"stall|idle|silen", KeyRow(TASK, "", "stallTimeout", to.seconds)),
    KeyStem(r"retr(?:y|ies)(?:delay|interval|wait|backoff|pause)|backoff", KeyRow(TASK, "", advice=NO_PAUSE)),
    KeyStem(r"retr(?:y|ies)", KeyRow(TASK, "", "maxRetries", to.retries)),
    KeyStem(r"attempt|tries$", KeyRow(TASK, "", "maxRetries", to.retries_of_attempts, "the first attempt is not a retry")),
    KeyStem(r"(?:timeout|deadline|duration|time|runtime)(?:in)?min", KeyRow(TASK, "", "timeout", to.minutes)),
    KeyStem(r"^max[a-z]*min(?:ute)?s?$", KeyRow(TASK, "", "timeout", to.minutes)),
    KeyStem(r"timeout|deadline|maxtime|maxruntime|duration", KeyRow(TASK, "", "timeout", to.seconds)),
    KeyStem(r"usd|cost|budget|spend|dollar|price", KeyRow(TASK, "", "budgetUsd", to.money)),
    KeyStem(r"turns|iteration", KeyRow(TASK, "", "maxTurns", to.whole)),
    KeyStem(
        r"rate|quota|throttl", KeyRow(TASK, "", advice="write `startLimit: {count: 10, per: 24h}` for how many runs may start")
    ),
    KeyStem(r"(?:hour|limit|max).*(?:limit|max|hour)", KeyRow(TASK, "", "startLimit", to.starts_an_hour)),
    KeyStem(r"(?:daily|day|limit|max).*(?:limit|max|daily|day)", KeyRow(TASK, "", "startLimit", to.starts_a_day)),
    KeyStem(r"notif|alert|e?mail|slack|onfail|onsuccess|onerror", KeyRow(TASK, "", advice=NOTIFY)),
    KeyStem(r"setup|install|bootstrap|^pre|^before|^init", KeyRow(TASK, "", "environment.setupCommands", to.commands)),
    KeyStem(r"hook|^on[a-z]{4}|^post|^after", KeyRow(TASK, "", advice=HOOKS)),
    KeyStem(r"param|input|argument|variable", KeyRow(TASK, "", "paramsSchema", to.schema)),
    KeyStem(r"import|includ|inherit|template", KeyRow(TASK, "", advice=IMPORT)),
    KeyStem(r"prompt|instruction", KeyRow(TASK, "", "promptTemplate")),
    KeyStem(r"secret|token|credential|apikey|password", KeyRow(TASK, "", advice=KEY)),
    KeyStem(r"cron|schedul", KeyRow(TASK, "", "schedule:cronExpression", to.cron)),
    KeyStem(r"depend|needs|upstream", KeyRow(TASK, "", advice=ORDER)),
    KeyStem(r"permission|role|sandbox|allowed", KeyRow(TASK, "", advice=RIGHTS)),
    KeyStem(r"limit|max|min|cap$", KeyRow(TASK, "", advice=_BOUNDS)),
    KeyStem(r"enab|activ", KeyRow(TASK, "", "enabled", to.switch)),
)
EXAMPLES = {
    "enabled": "false", "timeout": "20m", "stallTimeout": "5m", "maxRetries": "1", "maxConcurrent": "1", "priority": "10",
    "scheme": "hmac",
    "when": "\"@.action == 'opened'\"", "budgetUsd": '"1.00"', "maxTurns": "20",
    "cronExpression": to.EXAMPLE_CRON, "timezone": "Europe/Berlin",
    "misfire": "skip", "overlap": "skip", "path": "my-path", "events": "[push]", "secret": "{name: NAME}",
    "env": "{NAME: value}", "secrets": "[NAME]", "setupCommands": "[make]", "image": "ghcr.io/acme/agent:1",
    "resources": '{cpu: "1", memory: 2Gi}', "egress": "[api.example.com]", "cpu": '"1"', "memory": "2Gi", "keepFailed": "30m",
    "count": "10", "per": "1h", "command": "[python3, report.py]", "window": "10m", "warmPoolSize": "1", "id": "my-task",
    "name": "My Task", "triggers": "[{type: manual}]", "startLimit": "{count: 10, per: 24h}",
    "paramsSchema": "{type: object, properties: {NAME: {type: string, maxLength: 200}}, additionalProperties: false}",
}  # fmt: skip


@lru_cache(maxsize=1)
def _by_level() -> dict[str, dict[str, KeyRow]]:
    table: dict[str, dict[str, KeyRow]] = {}
    for row in ROWS:
        for name in row.names.split():
            table.setdefault(row.level, {}).setdefault(name, row)
    return table


def find_row(level: str, name: str) -> KeyRow | None:
    """Return the row for a folded name at a level, by its exact name or by a matching stem."""
    return _by_level().get(level, {}).get(name)


def names_at(level: str) -> Iterator[str]:
    """Yield all folded names that the table has at a level, for did-you-mean suggestions."""
    yield from _by_level().get(level, {})
