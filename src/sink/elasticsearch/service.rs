//! Batches as bulk requests.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;

use super::{
    answer,
    config::{ElasticPlan, Login, is_index_char},
};
use crate::{
    format::{FormatName, Formatter},
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, chain, formatter,
        web::secret_header,
    },
};

/// An item of an answer has a few hundred bytes.
const MAX_ANSWER: usize = 8 << 20;

struct Elastic {
    plan: ElasticPlan,
    client: reqwest::Client,
    formatter: Formatter,
    document: Vec<u8>,
}

pub(super) fn open(plan: &ElasticPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let sink = Elastic::new(plan, context)?;
    // Read now, so that a missing secret parks the sink before the first batch.
    sink.authorization()?;
    Ok(Box::new(sink))
}

/// An empty bulk request: who is let in is told that it wants a body.
pub(super) async fn probe(plan: &ElasticPlan, context: &Context) -> Result<String, Failure> {
    let request = Elastic::new(plan, context)?.request()?;
    // Some proxies refuse a POST that does not say how long it is.
    let answer = plan.web.send(request.header("Content-Length", "0")).await?;
    // A proxy that does not like it has no words like the cluster's.
    let is_clusters = || {
        serde_json::from_slice::<serde_json::Value>(&answer.body)
            .is_ok_and(|said| said["error"]["type"].is_string())
    };
    if answer.status == 200 || answer.status == 400 && is_clusters() {
        return Ok("the cluster lets us in".to_owned());
    }
    Err(answer.failure("the cluster"))
}

impl Sink for Elastic {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let index = match self.plan.index.fixed() {
            Some(index) => index.to_owned(),
            None => self.plan.index.fill(record, is_index_char).map_err(EncodeError)?,
        };
        self.document.clear();
        self.formatter.write(record, &mut self.document);
        batch.push(record, |out| {
            let start = out.len();
            out.extend_from_slice(b"{\"create\":{\"_index\":\"");
            out.extend_from_slice(index.as_bytes());
            out.extend_from_slice(b"\",\"_id\":\"");
            out.extend_from_slice(&record.event_id.hex());
            out.extend_from_slice(b"\"}}\n{");
            if self.plan.format != FormatName::Ecs {
                // A data stream takes no document without one.
                let time = record.time();
                out.extend_from_slice(format!("\"@timestamp\":\"{time}\",").as_bytes());
            }
            out.extend_from_slice(&self.document[1..]);
            out.push(b'\n');
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let request = self.request()?;
            let answer = self.plan.web.post(request, batch.bytes().to_vec(), MAX_ANSWER).await?;
            if answer.status != 200 {
                return Err(answer.failure("the cluster"));
            }
            answer::read(&answer.body, batch.len()).map(|()| Acknowledgement::received())
        })
    }
}

impl Elastic {
    fn new(plan: &ElasticPlan, context: &Context) -> Result<Self, Failure> {
        Ok(Self {
            client: plan.web.client()?,
            formatter: formatter(plan.format, context),
            plan: plan.clone(),
            document: Vec::new(),
        })
    }

    fn request(&self) -> Result<reqwest::RequestBuilder, Failure> {
        let request = self.client.post(self.plan.url.clone());
        let request = request.header("Content-Type", "application/x-ndjson");
        Ok(match self.authorization()? {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        match &self.plan.login {
            Login::None => Ok(None),
            Login::ApiKey(key) => secret_header("ApiKey ", key).map(Some),
            Login::Basic(user, password) => {
                let password =
                    password.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
                let pair = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
                let mut value = HeaderValue::from_str(&format!("Basic {pair}"))
                    .map_err(|_| Failure::misconfigured("the user is not text for a header"))?;
                value.set_sensitive(true);
                Ok(Some(value))
            }
        }
    }
}
