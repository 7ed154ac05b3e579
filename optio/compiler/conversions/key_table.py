"""Keys of other systems, as a table: where one stands, what holds the same here, and how its value is converted.

The rows come from GitHub Actions, gh-aw, Kestra, Dagu, Argo Workflows, Airflow, Prefect, n8n, Kelos, Kubernetes, Claude Code
and Codex. None of them gets the cure "delete it" alone: where nothing here holds the same, `advice` says so,
and what to do instead. Loaded only for a file with an unknown key.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from optio.compiler.conversions import values as to

TASK, ENVIRONMENT, NETWORK, RESOURCES, LIMIT, DEDUPE = "task", "environment", "network", "resources", "startLimit", "dedupe"
TRIGGER, SCHEDULE, WEBHOOK, MANUAL, TEST = "trigger", "schedule", "webhook", "manual", "tests"

# What says together when a schedule fires, where five fields do here.
CLOCK = (
    "time at timeofday runat hour hours minute minutes days day weekdays weekday dayofweek daysofweek dow on frequency repeat "
    "recurrence"
)


class Row(NamedTuple):
    """`names` are folded: lower case, no `_`, `-` or blanks. `ours` is a key of the same mapping, or a path: `/timeout` from
    the top, `schedule:timezone` in the config of that trigger; empty where nothing here means the same. `advice` is told
    behind the cure, or instead of it."""

    level: str
    names: str
    ours: str = ""
    convert: to.Conversion = to.same
    advice: str = ""


class Stem(NamedTuple):
    """A part of a name, as a pattern, and the row for it."""

    part: str
    row: Row

    @property
    def pattern(self) -> "re.Pattern[str]":
        """The part, compiled."""
        return re.compile(self.part)


_BOUNDS = (
    "you can limit `maxTurns`, `budgetUsd`, `timeout`, `maxRetries`, `maxConcurrent` and `startLimit`: write the "
    "one that is meant"
)
KEY = (
    "a key is a secret by its name: write `environment: {secrets: [ANTHROPIC_API_KEY]}`, and set "
    "`OPTIO_SECRET_ANTHROPIC_API_KEY` for the server"
)
_EACH_NAMED = "name each secret by itself: write `environment: {secrets: [NAME]}`; each one is a variable of the run"
_NO_PAUSE = "Optio waits 5 s, 10 s, 20 s and so on between tries: write `maxRetries:` for how often, and delete this line"
NOTIFY = (
    "Optio sends no messages: alert on the metric `optio_runs_total`, or say in the prompt whom to inform; then "
    "delete this line"
)
_HOOKS = (
    "Optio runs nothing after a run: put it into the prompt, or follow the metric `optio_runs_total`; then delete this line"
)
_ORDER = "tasks do not wait for each other: let the agent of the first one call the webhook of the second, and delete this line"
_JOBS = "a task is one agent with one prompt: write each job as a file of its own, its steps into the prompt, and delete this"
_TOOLS = (
    "agents bring their own tools: limit what they reach with `environment.network.egress` and "
    "`environment.secrets`, and delete this line"
)
_RIGHTS = "a run has the rights of its secrets: list them under `environment.secrets`, and delete this line"
_IMPORT = "a task takes values from one template: write `extends: templates/NAME.yaml`, with `type: template` in that file"
_FILES = (
    "a run begins with an empty directory: fetch what it needs by a command in `environment.setupCommands`, and "
    "delete this line"
)
_NO_RIGHTS = "a run has no rights on its machine, and gets none: let the image hold what it needs, and delete this line"
_NO_ENV_FILE = (
    "no file of variables is read: write each under `environment.env`, name those that are secret under "
    "`environment.secrets`, and delete this line"
)
_NO_SERVICE = "a run ends, and serves nobody: delete this line"
_KEPT = "the server decides how long runs are kept (`OPTIO_KEEP_RUNS`): delete this line"
PLACED = "a task does not choose where its pod runs: set `OPTIO_POD_TEMPLATE` for the worker, and delete this line"
_WORDS = "a task has no labels: use `owner`, `description` and the file's directory, and delete this line"
_OUTPUT = "the agent's last message is the result of the run: say in the prompt what to write, and delete this line"
_DATES = "a schedule has no first or last day: write `enabled: false` in the trigger while it must rest, and delete this line"
_ON_FILTER = "write `when: \"@.ref == 'refs/heads/main'\"`"
ONE_SCHEDULE = "a task has one schedule: write one file for each zone or time, with `extends:` for what they share"

ROWS: tuple[Row, ...] = (
    # What switches off.
    Row(
        TASK,
        "disabled disable paused pause suspend suspended skip skipped off inactive ispaused ispauseduponcreation "
        "onhold archived stopped shutdown draft",
        "enabled", to.turned,
    ),
    Row(TASK, "active isactive enable isenabled autoregister", "enabled", to.switch),
    Row(
        TRIGGER,
        "disabled disable paused pause suspend suspended skip off inactive ispaused muted stopped",
        "enabled", to.turned,
    ),
    Row(TRIGGER, "active isactive enable isenabled", "enabled", to.switch),
    Row(SCHEDULE, "disabled disable paused pause suspend suspended skip off inactive ispaused", "^enabled", to.turned),
    Row(SCHEDULE, "active isactive enable isenabled enabled", "^enabled", to.switch),
    Row(WEBHOOK, "disabled disable paused pause suspend suspended skip off inactive ispaused", "^enabled", to.turned),
    Row(WEBHOOK, "active isactive enable isenabled enabled", "^enabled", to.switch),
    Row(MANUAL, "disabled disable paused suspend skip off inactive", "^enabled", to.turned),
    Row(MANUAL, "active isactive enable isenabled enabled", "^enabled", to.switch),
    Row(
        TASK,
        "if condition when skipif skipifmatch skipifnomatch skipifsuccessful preconditions precondition runif "
        "conditions stopstrategy",
        advice="a condition belongs to a webhook: write `when: \"@.action == 'opened'\"` in its `config`; what else "
        "must hold, the prompt says",
    ),
    Row(
        TASK,
        "manualapproval approval approvals requireapproval askforapproval approvalpolicy waitforapproval "
        "permissionmode dangerouslyskippermissions roles bots",
        advice="a run asks nobody: say in the prompt what it may only propose, and give it secrets that can only "
        "read; then delete this line",
    ),
    # What bounds time.
    Row(TASK, "timeoutminutes timeoutinminutes timeoutmins maxminutes maxruntimeminutes", "timeout", to.minutes),
    Row(
        TASK,
        "timeoutseconds timeoutinseconds timeoutsecs timeoutsec activedeadlineseconds executiontimeout maxruntime "
        "maxexecutiontime deadline dagruntimeout runtimeout timelimit timelimitseconds maxduration jobtimeout "
        "duration tasktimeout maxtime deadlineseconds sessiontimeout timeouts timeoutstartsec runtimemaxsec "
        "maxrunseconds killtimeout executiontimeoutseconds maxrunduration walltime softtimelimit",
        "timeout", to.seconds,
    ),
    Row(TASK, "timeoutms timeoutmillis timeoutmilliseconds maxruntimems", "timeout", to.milliseconds),
    Row(TASK, "timeouthours maxhours", "timeout", to.hours),
    Row(TASK, "idletimeout inactivitytimeout silencetimeout heartbeattimeout stalledtimeout", "stallTimeout", to.seconds),
    Row(TASK, "idletimeoutminutes stalltimeoutminutes", "stallTimeout", to.minutes),
    Row(
        TASK,
        "sla slamisscallback slos expectedduration",
        advice="Optio does not warn of a late run: write `timeout: 20m` to end it, and alert on the metric "
        "`optio_slots_total`; then delete this line",
    ),
    Row(
        TASK,
        "terminationgraceperiodseconds maxcleanuptimesec stopsignal signalonstop stopgraceperiod timeoutstopsec killsignal "
        "gracefultimeout",
        advice="a run that is stopped has 10 s to end: delete this line",
    ),
    # What bounds tries.
    Row(
        TASK,
        "retry retries retrycount numretries backofflimit retrypolicy retrystrategy retrylimit onerrorretry maxretry "
        "retryonfail",
        "maxRetries", to.retries,
    ),
    Row(
        TASK,
        "maxattempts attempts maxtries tries maximumattempts",
        "maxRetries", to.retries_of_attempts, "the first attempt is no retry",
    ),
    Row(
        TASK,
        "restartsec minbackoffduration maxbackoffduration",
        advice=_NO_PAUSE,
    ),
    Row(
        TASK,
        "retrydelay retryinterval retryintervalsec retrybackoff backoff retryexponentialbackoff "
        "maxretrydelay retryjitterfactor waitbetweentries restartwaitsec retrywait",
        advice=_NO_PAUSE,
    ),
    Row(TASK, "restartpolicy restart", "maxRetries", to.retries_of_policy),
    Row(
        TASK,
        "continueonerror continueonfail allowfailure failfast failstop onerror ignoreerrors",
        advice="a run that fails holds up no other: write `maxRetries: 0` for one try alone, and delete this line",
    ),
    # What bounds how many.
    Row(
        TASK,
        "concurrency maxconcurrency concurrencylimit maxconcurrentruns maxactiveruns maxactivetasks maxactivesteps "
        "parallelism parallel maxparallel maxinstances singleton mutex synchronization concurrentruns concurrent "
        "allowconcurrent maxparallelism maxrunning completions maxworkers",
        "maxConcurrent", to.at_once,
    ),
    Row(TASK, "concurrencypolicy overlappolicy overlap", "schedule:overlap", to.overlapping),
    Row(
        TASK,
        "ratelimit throttle throttling maxruns maxrunsperday runlimit maxtotaltasks quota limits",
        "startLimit", to.starts_a_day,
    ),
    Row(TASK, "maxrunsperhour", "startLimit", to.starts_an_hour),
    Row(TASK, "stopafter", "timeout", to.seconds),
    Row(TASK, "startlimitburst", "startLimit", to.starts_a_day),
    Row(
        TASK,
        "debounce dedup deduplicate deduplication idempotencykey uniquekey memoize cachekey cachekeyfn cachepolicy "
        "concurrencygroup concurrencykey skipduplicate",
        advice="write `dedupe: {key: \"{{NAME}}\"}` with the parameter that makes two runs the same",
    ),
    Row(
        TASK,
        "priorityweight priorityclassname priorityclass podpriority podpriorityclassname",
        "priority", to.whole, "the highest of -100 to 100 starts first",
    ),
    Row(
        TASK,
        "budget maxcost maxcostusd budgetlimit costlimit maxbudget maxbudgetusd maxspend spendlimit maxprice "
        "budgetdollars cost maxusd usdlimit maxspendusd costbudget",
        "budgetUsd", to.money,
    ),
    Row(
        TASK,
        "maxtokens tokenlimit maxoutputtokens modelmaxoutputtokens maxthinkingtokens contextwindow "
        "modelcontextwindow tokenbudget",
        advice="no key bounds tokens: write `budgetUsd: \"1.00\"` and `maxTurns: 20`",
    ),
    Row(
        TASK,
        "turns turnlimit maxiterations maxsteps iterations iterationlimit steplimit maxagentturns maxturncount "
        "maxtoolcalls",
        "maxTurns", to.whole,
    ),
    # What the agent is, and what it is told.
    Row(
        TASK,
        "prompt instructions instruction systemprompt appendsystemprompt directprompt custominstructions message "
        "task goal query content text body userprompt promptbody basetext developerinstructions initialprompt",
        "promptTemplate", to.same,
    ),
    Row(
        TASK,
        "promptpath instructionsfile experimentalinstructionsfile modelinstructionsfile templatefile promptfilepath "
        "systempromptfile",
        "promptFile", to.same,
    ),
    Row(
        TASK,
        "runtime agent engine agenttype cli provider modelprovider tool assistant aiengine agentname",
        "agentRuntime", to.runtime,
    ),
    Row(TASK, "llm modelname modelid fallbackmodel aimodel", "model", to.text),
    Row(
        TASK,
        "temperature topp effort reasoningeffort modelreasoningeffort modelreasoningsummary thinking modelverbosity "
        "outputstyle verbose debug strict features experimental hideagentreasoning cacheprompt enabletodo",
        advice="Optio does not tune how an agent thinks: choose another `model:`, or say it in the prompt; then "
        "delete this line",
    ),
    Row(
        TASK, "ssh sshconfig remotehost",
        advice="a run works on its own machine: let a command reach the other one with a key under `environment.secrets`, and "
        "delete this line",
    ),
    Row(
        TASK,
        "tools mcpservers mcp allowedtools disallowedtools allowtools denytools toolsallowed agents subagents skills "
        "plugins enableallprojectmcpservers websearch commandsallowed extensions enabledplugins "
        "threatdetection lockdown",
        advice=_TOOLS,
    ),
    Row(
        TASK,
        "permissions permission accesscontrol rbac capabilities scopes security sandbox sandboxmode "
        "sandboxworkspacewrite forceloginmethod callerpolicy runas",
        advice=_RIGHTS,
    ),
    Row(
        TASK,
        "safeoutputs secretmasking outputs output outputformat outputschema artifacts artifact results xcompush "
        "persistresult lasttext archivelogs artifactrepositoryref saveexecutionprogress",
        advice=_OUTPUT,
    ),
    Row(
        TASK,
        "apikey anthropicapikey openaiapikey apikeyhelper credentials credential auth token githubtoken "
        "anthropicauthtoken claudecodeoauthtoken envkey smtpcredentials",
        advice=KEY,
    ),
    Row(
        TASK,
        "hooks posttooluse pretooluse stop posttask prehooks posthooks onexit handleron finally listeners "
        "afterexecution callbacks poststeps after onsuccess oncompletion oncancellation onfinish onstart onend "
        "onsuccesscallback onretrycallback lifecycle poststop triggerrule execstartpost execstop execstoppost afterscript "
        "post always cleanup teardown",
        advice=_HOOKS,
    ),
    Row(
        TASK,
        "notify notifications notification alerts alert alerting email emails mailon emailonfailure emailonretry "
        "errormail infomail mailonerror slack slackchannel smtp onfailure onerrornotify onfailurecallback errors "
        "errorworkflow errorhandler webhookurl callbackurl notifyonfailure reporter pagerduty subscribers",
        advice=NOTIFY,
    ),
    Row(
        TASK,
        "needs dependson depends dependencies dependsonpast upstream downstream waitfor waitfordownstream requires",
        advice=_ORDER,
    ),
    Row(
        TASK,
        "jobs tasks stages pipeline workflow workflows templates entrypoint dag nodes matrix strategy dags functions "
        "subtasks foreach loop repeat repeatpolicy withitems withparam",
        advice=_JOBS,
    ),
    Row(
        TASK,
        "uses imports import include includes includefrom template templateref workflowtemplateref inherits inherit "
        "base baseconfig from agentconfigref profile profiles settingsources taskdefaults plugindefaults parent "
        "taskref preset",
        "", to.same, _IMPORT,
    ),
    # What it is called.
    Row(TASK, "title displayname label workflowname flowname dagdisplayname dagname runname jobname taskname", "name", to.text),
    Row(
        TASK,
        "dagid workflowid flowid taskid slugname uid ref identifier trackerid",
        "id", to.text, "a-z, 0-9 and single dashes",
    ),
    Row(
        TASK,
        "maintainer maintainers owners team teams contact author authors responsible createdby codeowners ownerlinks "
        "assignee assignees",
        "owner", to.text,
    ),
    Row(TASK, "summary docs doc docmd documentation readme notes comment comments about help purpose", "description", to.text),
    Row(
        TASK,
        "tags labels annotations metalabels group category folder color colour icon pindata versionid "
        "displayorder trackingid project podmetadata",
        advice=_WORDS,
    ),
    Row(
        TASK,
        "version schemaversion specversion lang dsl syntax",
        advice="the version of the format is `apiVersion: optio/v1`; a task's own versions are those of git: delete "
        "this line",
    ),
    Row(TASK, "kind", "type", to.standalone),
    Row(TASK, "metadata", advice="write `name:` and what else a task has at the top of the file"),
    Row(
        TASK,
        "spec defaultargs settings config configuration options tasktemplate jobtemplate workflowspec podspec "
        "defaults taskspec runconfig jobspec job workflowdefaults deployment deployments flow",
        advice="move what is below it to the top of the file",
    ),
    # What starts it.
    Row(
        TASK,
        "cron crontab cronexpression schedule schedules scheduleinterval schedulecron timetable cronschedule "
        "scheduled scheduleexpression oncalendar rrule crons cronspec cronstring",
        "schedule:cronExpression", to.cron,
    ),
    Row(TASK, "timezone tz timezoneid zone schedulertimezone", "schedule:timezone", to.text),
    Row(
        TASK,
        "catchup catchupwindow misfirepolicy misfire startingdeadlineseconds backfill recovermissedschedules "
        "misfiregracetime coalesce",
        "schedule:misfire", to.catch_up,
    ),
    Row(TASK, "persistent", "schedule:misfire", to.caught_up_once),
    Row(
        TASK,
        "interval every rate frequency pollinterval period repeatevery repeatinterval delaysec delay countdown "
        "onunitactivesec onbootsec startinterval intervalseconds",
        "schedule:cronExpression", to.cron,
    ),
    Row(
        TASK,
        "startdate enddate startat endat runat until notbefore notafter expires expiresat validfrom validuntil "
        "starttime endtime",
        advice=_DATES,
    ),
    Row(TASK, "webhook webhooks hook http endpoint path url route webhookid responsemode httpmethod", "webhook:path", to.text),
    Row(TASK, "events event eventtypes", "webhook:events", to.names),
    Row(TASK, "on trigger startson triggeredby startwhen", "triggers", to.triggers),
    Row(TASK, "workflowdispatch dispatch manual button", advice="write `triggers: [{type: manual}]`"),
    Row(
        TASK,
        "push issues issuecomment release workflowrun githubissues githubpullrequests repositorydispatch workflowcall",
        advice="write `triggers: [{type: webhook, config: {path: my-path, scheme: github, events: [push], secret: "
        "{name: NAME}}}]`",
    ),
    Row(TASK, "signature signingsecret webhooksecret hmacsecret", "webhook:secret", to.secret),
    # What it is given.
    Row(
        TASK,
        "repo repourl repository repositoryurl gitref upstreamrepo source",
        "environment.setupCommands", to.clone, "a standalone task has no repository",
    ),
    Row(
        TASK,
        "branch repobranch basebranch branches",
        advice="a standalone task has no repository: write `git clone -b BRANCH URL` under "
        "`environment.setupCommands`, and delete this line",
    ),
    Row(
        TASK,
        "automerge pullrequest createpr createpullrequest reviewers",
        advice="a standalone task has no repository: let the prompt say what becomes of a change, and delete this "
        "line",
    ),
    Row(
        TASK,
        "params parameters inputs input with arguments schema inputschema parameterschema parametersschema "
        "argumentschema parameter enforceparameterschema",
        "paramsSchema", to.schema,
    ),
    Row(TASK, "variables vars var values context userdata", "paramsSchema", to.schema),
    Row(
        TASK,
        "environmentvariables envvars envs shellenvironmentpolicy envvar",
        "environment.env", to.mapping_of_texts,
    ),
    Row(TASK, "secret secretrefs secretenv secretkeys secretnames", "environment.secrets", to.secret_names),
    Row(
        TASK,
        "steps script scripts run setup setupsteps init initialize initscript beforecommands beforescript before "
        "prerun presteps prestart install prepare bootstrap build runcommands initcontainers onstartup precommands "
        "cmd setupscript packages requirements requirementsfile pipinstall npminstall runtimes",
        "environment.setupCommands", to.commands, "a task that is a program has `agentRuntime: command` and `command:`",
    ),
    Row(
        TASK,
        "entrypointcommand exec executable program args argv bashcommand commandline execstart runcommand startcommand "
        "dockercommand containercommand",
        "command", to.program, "with `agentRuntime: command`",
    ),
    Row(TASK, "execstartpre", "environment.setupCommands", to.commands),
    Row(
        TASK,
        "container containerimage dockerimage docker baseimage imagename imagetag runson workerimage imageref runner "
        "sandboximage",
        "environment.image", to.image,
    ),
    Row(TASK, "containers sidecars services", "environment.image", to.image, "a run is one container"),
    Row(
        TASK,
        "imagepullpolicy imagepullsecrets registryauths nodeselector affinity tolerations schedulername dnspolicy "
        "dnsconfig hostaliases workerpool workpool workqueue workerselector workergroup queue pool nodename "
        "runtimeclassname topologyspreadconstraints podtemplate podspecpatch podoverrides jobvariables executor "
        "taskrunner executorconfig workqueuename poolslots",
        advice=PLACED,
    ),
    Row(TASK, "resource compute deploy", "environment.resources", to.amounts),
    Row(TASK, "requests", "environment.resources.requests", to.amounts),
    Row(
        TASK,
        "memlimit memorylimit memorymb memorymib memorymax memorysize mem ram memoryinmb", "environment.resources.memory",
        to.memory,
    ),
    Row(TASK, "cpus cpulimit cpuquota vcpu vcpus cores cpucount", "environment.resources.cpu", to.cores),
    Row(
        TASK, "machine instancetype size machinetype resourceclass vmsize plan",
        advice="a task names amounts, and no kind of machine: write `environment: {resources: {cpu: \"1\", memory: 2Gi}}`, and "
        "delete this line",
    ),
    Row(
        TASK,
        "allowedhosts alloweddomains hosts domains networkaccess firewall allowlist whitelist outbound egressrules "
        "internet",
        "environment.network.egress", to.hosts,
    ),
    Row(
        TASK,
        "workingdirectory workingdir workdir cwd dir adddir additionaldirectories storage volumes volumemounts "
        "workspace workspaceref cache cachememory files checkout mounts persistence pull pullsteps datasets "
        "repomemory templatesearchpath artifactpaths",
        advice=_FILES,
    ),
    Row(
        TASK,
        "histretentiondays retention retentiondays "
        "successfuljobshistorylimit failedjobshistorylimit logdir cleanupperioddays historylimit retentionpolicy "
        "logretention cacheexpiration history savedataerrorexecution logs loglevel logprints keeplogs",
        advice=_KEPT,
    ),
    Row(
        TASK,
        "keepfailed keeponfailure ttlsecondsafterfinished ttl ttlstrategy podgc keeppod",
        "environment.keepFailed", to.seconds, "of a run that succeeded no pod stays",
    ),
    Row(TASK, "warmpool minreplicas replicas poolsize minready prewarm warmpods", "warmPoolSize", to.whole),
    Row(
        TASK,
        "otel tracing metrics telemetry statusline livenessprobe readinessprobe healthcheck ports port "
        "executionorder staticdata meta orientation defaultview tty stdin",
        advice="a task has no such key: metrics and traces are set for the server, so delete this line",
    ),
    Row(TASK, "testcases samples examples fixtures mocks test checks assertions", "tests", to.same),
    # Below `environment`.
    Row(
        ENVIRONMENT,
        "variables vars environmentvariables envvars envs environment values",
        "env", to.mapping_of_texts,
    ),
    Row(ENVIRONMENT, "envfile dotenv environmentfile envfiles", advice=_NO_ENV_FILE),
    Row(TASK, "envfile dotenv environmentfile envfiles", advice=_NO_ENV_FILE),
    Row(TASK, "envfrom vault", advice=_EACH_NAMED),
    Row(ENVIRONMENT, "envfrom", "secrets", to.secrets_of, advice="one name for each secret, which is a variable of the run"),
    Row(ENVIRONMENT, "secretrefs secret secretenv credentials secretnames", "secrets", to.secret_names),
    Row(
        ENVIRONMENT,
        "commands setup steps script scripts run init before beforecommands beforescript setupscript install "
        "packages prerun initcommands precommands initcontainers postcreatecommand oncreatecommand setupcommand",
        "setupCommands", to.commands,
    ),
    Row(ENVIRONMENT, "container containerimage dockerimage docker baseimage imagename base runson", "image", to.image),
    Row(
        ENVIRONMENT,
        "egress allowedhosts alloweddomains hosts domains allowlist firewall networkpolicy internet allow allowed",
        "network.egress", to.hosts,
    ),
    Row(
        ENVIRONMENT, "cpu cpus cpulimit cpuquota cpucount vcpu vcpus cores cpulimits", "resources.cpu", to.cores
    ),
    Row(
        ENVIRONMENT,
        "memory mem ram memorylimit memlimit memorymax memorysize memorymb memorymib memoryinmb memorymbs memoryswap "
        "memswaplimit",
        "resources.memory", to.memory,
    ),
    Row(ENVIRONMENT, "memreservation memoryreservation memoryrequest", "resources.requests.memory", to.memory),
    Row(ENVIRONMENT, "cpureservation cpurequest", "resources.requests.cpu", to.cores),
    Row(ENVIRONMENT, "limits", "resources.limits", to.amounts),
    Row(ENVIRONMENT, "requests reservations", "resources.requests", to.amounts),
    Row(ENVIRONMENT, "deploy resource compute", "resources", to.amounts),
    Row(
        ENVIRONMENT,
        "volumes volumemounts mounts workingdirectory workingdir workdir cwd dir workspace files checkout",
        advice=_FILES,
    ),
    Row(ENVIRONMENT, "imagepullpolicy nodeselector affinity tolerations runner machine platform", advice=PLACED),
    Row(
        ENVIRONMENT,
        "name url deployment",
        advice="`environment` says where the agent runs, and has no name: write `image:`, or delete this line",
    ),
    Row(
        ENVIRONMENT,
        "keeponfailure debugpod keep ttlafterfailure ttlsecondsafterfinished ttl ttlstrategy podgc "
        "secondsafterfailure keeppod keepalive",
        "keepFailed", to.seconds, "of a run that succeeded no pod stays",
    ),
    Row(ENVIRONMENT, "become becomeuser becomemethod sudo user root runasgroup group", advice=_NO_RIGHTS),
    Row(TASK, "become becomeuser becomemethod sudo user root username", advice=_NO_RIGHTS),
    Row(
        ENVIRONMENT,
        "permissions sandbox sandboxmode",
        advice=_RIGHTS,
    ),
    Row(ENVIRONMENT, "tools allowedtools mcpservers mcp", advice=_TOOLS),
    Row(ENVIRONMENT, "ports expose networkmode healthcheck restart dependson", advice=_NO_SERVICE),
    Row(
        NETWORK,
        "allowed allow hosts domains alloweddomains allowedhosts allowlist whitelist outbound egressrules",
        "egress", to.hosts,
    ),
    Row(
        NETWORK,
        "blocked deny denylist disabled none ingress firewall mode policy networkaccess proxy isolated",
        advice="only what `egress` lists can be reached, and nobody comes in: list the hosts, or write `egress: []` "
        "for none; then delete this line",
    ),
    Row(RESOURCES, "mem ram memorylimit memlimit memorymax memorysize", "memory", to.memory),
    Row(RESOURCES, "reservations request reserved", "requests", to.amounts),
    Row(RESOURCES, "limit max", "limits", to.amounts),
    Row(RESOURCES, "memoryrequest memrequest requestmemory memoryreservation", "requests.memory", to.memory),
    Row(RESOURCES, "cpurequest requestcpu cpureservation", "requests.cpu", to.cores),
    Row(RESOURCES, "memorymb memorymib memoryinmb", "memory", to.mebibytes),
    Row(RESOURCES, "cpus cores cpulimit vcpu vcpus cpucount cpuquota", "cpu", to.cores),
    Row(
        RESOURCES,
        "gpu gpus nvidia.com/gpu ephemeralstorage storage disk",
        advice="a task bounds `cpu` and `memory` alone: what else a pod has, the pod template of the worker says "
        "(`OPTIO_POD_TEMPLATE`); delete this line",
    ),
    # Quotas and business keys.
    Row(LIMIT, "max limit runs maxruns times number amount starts", "count", to.whole),
    Row(LIMIT, "window period interval every within unit duration seconds", "per", to.seconds),
    Row(LIMIT, "minutes", "per", to.minutes),
    Row(LIMIT, "hours", "per", to.hours),
    Row(DEDUPE, "id expression on by field fields uniquekey idempotencykey template", "key", to.same),
    Row(DEDUPE, "ttl period interval within duration for expires", "window", to.seconds),
    Row(DEDUPE, "strategy policy action mode behavior behaviour collisionstrategy onconflict", "onDuplicate", to.on_duplicate),
    # In the config of a schedule.
    Row(SCHEDULE, CLOCK, "cronExpression", to.cron),
    Row(
        SCHEDULE,
        "cron crontab schedule schedules expression scheduleinterval interval expr rule pattern cronstring every rrule "
        "oncalendar scheduleexpression cronschedule cronspec onunitactivesec onbootsec "
        "onactivesec startinterval startcalendarinterval",
        "cronExpression", to.cron,
    ),
    Row(SCHEDULE, "tz zone timezoneid scheduleexpressiontimezone timezonename crontz", "timezone", to.text),
    Row(SCHEDULE, "params parameters inputs mapping values arguments with args input", "paramMapping", to.same),
    Row(
        SCHEDULE,
        "concurrencypolicy overlappolicy allowconcurrent collisionstrategy preventoverlap singleton",
        "overlap", to.overlapping,
    ),
    Row(
        SCHEDULE,
        "catchup catchupwindow misfirepolicy recovermissedschedules backfill onmissed misfireinstruction "
        "catchuppolicy",
        "misfire", to.catch_up,
    ),
    Row(
        SCHEDULE,
        "startingdeadlineseconds misfiregracetime latemaximumdelay maximumeventageinseconds deadline",
        "misfire", to.late,
        "so a time that nobody saw within a minute is left out; `last` runs the last of them, however late",
    ),
    Row(SCHEDULE, "persistent coalesce runonstart anacron runmissed", "misfire", to.caught_up_once),
    Row(SCHEDULE, "maxcatchupruns maxbackfill maxmisfires", "maxCatchUp", to.whole),
    Row(
        SCHEDULE,
        "startdate enddate startat endat until stopafter anchordate notbefore expires starttime endtime validfrom "
        "validuntil",
        advice=_DATES,
    ),
    Row(
        SCHEDULE,
        "jitter splay randomizeddelaysec flexibletimewindow accuracysec randomdelay randomoffset fixedrandomdelay "
        "spread stagger",
        advice="a schedule fires at its minute: write another minute into `cronExpression` where tasks meet, and "
        "delete this line",
    ),
    Row(SCHEDULE, "successfuljobshistorylimit failedjobshistorylimit", advice=_KEPT),
    Row(
        SCHEDULE,
        "when if condition conditions scheduleconditions filter dayor",
        advice="a schedule has no condition: say in the prompt when there is nothing to do, and delete this line",
    ),
    Row(SCHEDULE, "timezones times crons", advice=ONE_SCHEDULE),
    # In the config of a webhook.
    Row(
        WEBHOOK,
        "provider source sender vendor type auth signature authentication signaturetype verification service",
        "scheme", to.scheme,
    ),
    Row(WEBHOOK, "filter condition if only conditions expression match jmespath cel filters", "when", to.condition),
    Row(
        WEBHOOK,
        "params parameters inputs mapping bindings fields extract payload transform variables body",
        "paramMapping", to.same,
    ),
    Row(
        WEBHOOK, "rules rule eventpattern jsonlogic filterexpression eventfilter predicate query cond expr", "when",
        to.condition,
    ),
    Row(WEBHOOK, "url endpoint route hook uri slug webhookid id name", "path", to.text),
    Row(WEBHOOK, "on eventtypes event eventtype", "events", to.names),
    Row(
        WEBHOOK,
        "secretref secretkeyref secretname signingsecret webhooksecret hmacsecret token sharedsecret secretkey key "
        "password apikey",
        "secret", to.secret,
    ),
    Row(WEBHOOK, "oldsecret secretold secondarysecret", "previousSecret", to.secret),
    Row(WEBHOOK, "header signaturename hmacheader", "signatureHeader", to.text),
    Row(WEBHOOK, "idempotencyheader idheader deliveryid", "deliveryHeader", to.text),
    Row(WEBHOOK, "branch branches refs ref", advice=_ON_FILTER),
    Row(WEBHOOK, "branchesignore", advice="write `when: \"@.ref != 'refs/heads/main'\"`"),
    Row(WEBHOOK, "types action actions activity", "when", to.one_of_actions),
    Row(WEBHOOK, "tags", advice="write `when: \"@.ref_type == 'tag'\"` with `events: [create]`"),
    Row(WEBHOOK, "labels label", advice="write `when: \"@.issue.labels[?@.name == 'bug']\"`"),
    Row(
        WEBHOOK,
        "paths",
        advice="a push lists its files by commit: write `when: \"@.commits[*].modified[?search(@, '^src/')]\"`",
    ),
    Row(
        WEBHOOK,
        "pathsignore",
        advice="a push lists its files by commit: write `when: \"@.commits[*].modified[?!search(@, '^docs/')]\"`",
    ),
    Row(WEBHOOK, "repository repo repositories", advice="write `when: \"@.repository.full_name == 'acme/hello'\"`"),
    Row(WEBHOOK, "user users actor actors author roles", advice="write `when: \"@.sender.login == 'NAME'\"`"),
    Row(WEBHOOK, "ratelimit limit throttle", advice="write `startLimit: {count: 10, per: 1h}` at the top of the file"),
    Row(WEBHOOK, "public anonymous noauth insecure allowunsigned", "unsigned", to.switch),
    Row(WEBHOOK, "method httpmethod methods", advice="deliveries come by POST: delete this line"),
    Row(
        WEBHOOK,
        "response responsemode respond async timeout sync wait",
        advice="a delivery is answered with 202 before its run begins: delete this line",
    ),
    Row(WEBHOOK, "algorithm hashalgorithm digest algo", advice="signatures are HMAC-SHA256: delete this line"),
    Row(WEBHOOK, "encoding", "signatureEncoding", to.text),
    Row(
        WEBHOOK,
        "dedupe debounce idempotencykey",
        advice="write `dedupe: {key: \"{{NAME}}\"}` at the top of the file, with the parameter that makes two runs "
        "the same",
    ),
    # Beside the config of a trigger.
    Row(
        TRIGGER,
        "name id title description label slug",
        advice="a trigger has no name of its own: write a comment, `# what it is for`, and delete this line",
    ),
    Row(TRIGGER, "with options settings spec properties", "config", to.same),
    Row(TRIGGER, "kind", "type", to.text),
    # In tests.
    Row(TEST, "payload body event file fixture sample", "webhook", to.same),
    Row(TEST, "input inputs parameters args arguments with given", "params", to.same),
    Row(TEST, "expected then want assert asserts expectation output should", "expect", to.same),
    Row(TEST, "at time cron when", "schedule", to.same),
    Row(TEST, "description title label id", "name", to.same),
)  # fmt: skip
# What else a key may be about, by a part of its name: looked at last.
STEMS: tuple[Stem, ...] = (
    Stem(r"disab|paus|suspend|inactive|skip|mute", Row(TASK, "", "enabled", to.turned)),
    Stem(r"stall|idle|silen", Row(TASK, "", "stallTimeout", to.seconds)),
    Stem(r"retr(?:y|ies)(?:delay|interval|wait|backoff|pause)|backoff", Row(TASK, "", advice=_NO_PAUSE)),
    Stem(r"retr(?:y|ies)", Row(TASK, "", "maxRetries", to.retries)),
    Stem(r"attempt|tries$", Row(TASK, "", "maxRetries", to.retries_of_attempts, "the first attempt is no retry")),
    Stem(r"(?:timeout|deadline|duration|time|runtime)(?:in)?min", Row(TASK, "", "timeout", to.minutes)),
    Stem(r"timeout|deadline|maxtime|maxruntime|duration", Row(TASK, "", "timeout", to.seconds)),
    Stem(r"usd|cost|budget|spend|dollar|price", Row(TASK, "", "budgetUsd", to.money)),
    Stem(r"turns|iteration", Row(TASK, "", "maxTurns", to.whole)),
    Stem(r"concurren|parallel", Row(TASK, "", "maxConcurrent", to.at_once)),
    Stem(r"rate|quota|throttl", Row(TASK, "", advice="write `startLimit: {count: 10, per: 24h}` for how many runs may start")),
    Stem(r"notif|alert|e?mail|slack|onfail|onsuccess|onerror", Row(TASK, "", advice=NOTIFY)),
    Stem(r"hook|^on[a-z]{4}|^post|^after", Row(TASK, "", advice=_HOOKS)),
    Stem(r"setup|install|bootstrap|^pre|^before|^init", Row(TASK, "", "environment.setupCommands", to.commands)),
    Stem(r"param|input|argument|variable", Row(TASK, "", "paramsSchema", to.schema)),
    Stem(r"import|includ|inherit|template", Row(TASK, "", advice=_IMPORT)),
    Stem(r"prompt|instruction", Row(TASK, "", "promptTemplate")),
    Stem(r"secret|token|credential|apikey|password", Row(TASK, "", advice=KEY)),
    Stem(r"cron|schedul", Row(TASK, "", "schedule:cronExpression", to.cron)),
    Stem(r"depend|needs|upstream", Row(TASK, "", advice=_ORDER)),
    Stem(r"permission|role|sandbox|allowed", Row(TASK, "", advice=_RIGHTS)),
    Stem(r"limit|max|min|cap$", Row(TASK, "", advice=_BOUNDS)),
    Stem(r"enab|activ", Row(TASK, "", "enabled", to.switch)),
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
def _by_level() -> dict[str, dict[str, Row]]:
    table: dict[str, dict[str, Row]] = {}
    for row in ROWS:
        for name in row.names.split():
            table.setdefault(row.level, {}).setdefault(name, row)
    return table


def row_of(level: str, name: str) -> Row | None:
    """The row of a folded name at a level."""
    return _by_level().get(level, {}).get(name)


def names_at(level: str) -> Iterator[str]:
    """All folded names of a level."""
    yield from _by_level().get(level, {})
