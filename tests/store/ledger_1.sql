CREATE TABLE kimi_calls (
	id INTEGER NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	started BIGINT NOT NULL, 
	day VARCHAR(10) NOT NULL, 
	lease BIGINT NOT NULL, 
	settled BIGINT, 
	user VARCHAR NOT NULL, 
	session VARCHAR(32) NOT NULL, 
	notebook VARCHAR NOT NULL, 
	cell VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	prompt_hash VARCHAR NOT NULL, 
	expected_tokens BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	completion_tokens BIGINT NOT NULL, 
	cached_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	web_searches BIGINT NOT NULL, 
	estimated BOOLEAN NOT NULL, 
	cost BIGINT, 
	currency VARCHAR(3) NOT NULL, 
	price VARCHAR NOT NULL, 
	price_date VARCHAR(10) NOT NULL, 
	steps BIGINT NOT NULL, 
	retries BIGINT NOT NULL, 
	finish_reason VARCHAR NOT NULL, 
	request_id VARCHAR NOT NULL, 
	seconds FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "kimi_calls" VALUES(1,'db1e3e8f503943ca903a582782ae835b','settled',1795176000000000,'2026-11-20',1795176120000000,1795176000000000,'ada','session-1','/work/a.ipynb','c0','api.moonshot.ai','kimi-k2.6','',990,1000,200,0,0,0,0,1750000000,'USD','0.16//0.95/4/','',1,0,'stop','r0',1.5);
INSERT INTO "kimi_calls" VALUES(2,'b05cd930cd5541ed80d66fce9d1b11e9','settled',1795176000000000,'2026-11-20',1795176120000000,1795176000000000,'ada','session-1','/work/a.ipynb','c1','api.moonshot.ai','kimi-k2.6','',990,1000,201,0,0,0,0,1754000000,'USD','0.16//0.95/4/','',1,0,'stop','r1',1.5);
CREATE TABLE kimi_meta (
	name VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "kimi_meta" VALUES('version','1');
CREATE TABLE kimi_sums (
	day VARCHAR(10) NOT NULL, 
	user VARCHAR NOT NULL, 
	notebook VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	currency VARCHAR(3) NOT NULL, 
	calls BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	completion_tokens BIGINT NOT NULL, 
	cached_tokens BIGINT NOT NULL, 
	cost BIGINT NOT NULL, 
	unpriced BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	PRIMARY KEY (day, user, notebook, model, currency)
);
INSERT INTO "kimi_sums" VALUES('2026-11-20','ada','/work/a.ipynb','kimi-k2.6','USD',2,2000,401,0,3504000000,0,0);
CREATE INDEX kimi_calls_day ON kimi_calls (day);
CREATE INDEX kimi_calls_started ON kimi_calls (started);
CREATE INDEX kimi_calls_session ON kimi_calls (session);
CREATE INDEX kimi_calls_open ON kimi_calls (lease) WHERE state = 'reserved';
CREATE INDEX kimi_sums_notebook ON kimi_sums (notebook);
