//! Writes batches as objects. No object is ever overwritten. A batch contains complete entries, and
//! each object contains one of them. An object that the store already has is from an earlier
//! attempt and counts as written, if the store itself reports and confirms it; see `existence`.
//! Start reading at [`open`].

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use super::{
    config::ObjectPlan,
    existence::{self, FoundObject},
    object::{Object, folder, objects},
    parquet::Rows,
    store::{self, ObjectRequest},
};
use crate::{
    format::Formatter,
    model::Record,
    sink::{Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter},
};

/// The number of objects that are written at the same time.
const CONCURRENT_PUTS: usize = 8;

/// The name, below the prefix, of an object that does not exist.
const PROBE_OBJECT: &str = "secure-score-forwarder/probe";

struct Objects {
    plan: ObjectPlan,
    store: Arc<dyn ObjectStore>,
    formatter: Formatter,
    rows: Rows,
}

/// Opens the sink without a request. Fails as [`store::open`] does.
pub(super) fn open(plan: &ObjectPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    Ok(Box::new(Objects {
        store: store::open(plan, context)?,
        formatter: formatter(plan.format, context),
        rows: Rows::new(),
        plan: plan.clone(),
    }))
}

/// Requests an object that does not exist. A credential that may write objects need not have
/// permission to read them. Fails if the store rejects the credential or the bucket, or does not
/// respond.
pub(super) async fn probe(plan: &ObjectPlan, context: &Context) -> Result<String, Failure> {
    // The credential may have permissions only below the prefix.
    let name = format!("{}/{PROBE_OBJECT}", plan.prefix);
    match store::open(plan, context)?.get(&Path::from(name)).await {
        Ok(_) => Ok(store::ACCEPTED.to_owned()),
        Err(error) => match store::probe_result(&error) {
            Ok(accepted) => Ok(accepted),
            Err(failure) => Err(store::explained(plan, &error, failure).await),
        },
    }
}

impl Sink for Objects {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let folder = folder(&self.plan, record);
        batch.push_to(record, Some(&folder), |out| {
            let start = out.len();
            self.formatter.write(record, out);
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let this = &*self;
            let puts = objects(batch).into_iter().map(|object| this.put(object, batch));
            // The futures are collected because the compiler cannot infer that the lazy iterator
            // is `Send`.
            let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffered(CONCURRENT_PUTS);

            let mut arrived = 0;
            while let Some(put) = puts.next().await {
                match put {
                    Ok(end) => arrived = end,
                    Err(failure) => return Err(Failure::partial(arrived, failure)),
                }
            }
            Ok(Acknowledgement::received())
        })
    }
}

impl Objects {
    /// Writes an object. Returns the number of records, from the first of the batch, that have
    /// arrived when this object and all before it are written.
    async fn put(&self, object: Object<'_>, batch: &Batch) -> Result<usize, Failure> {
        let name = object.name(&self.plan);
        let body = object.body(&self.plan, batch, &self.rows).map_err(|reason| {
            Failure::misconfigured(format!("cannot encode object `{name}`: {reason}"))
        })?;
        let location = Path::parse(&name).map_err(|error| {
            Failure::misconfigured(format!("`{name}` is not a name of an object: {error}"))
        })?;

        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&location, body.into(), options).await {
            Ok(_) => Ok(object.end),
            Err(error) if existence::is_reported(&error) => {
                self.confirm_existence(&name, &location).await?;
                Ok(object.end)
            }
            Err(error) => {
                let failure = store::failure(ObjectRequest::Write, &name, &error);
                Err(store::explained(&self.plan, &error, failure).await)
            }
        }
    }

    /// Confirms that the store has an object that it has reported as existing. An earlier attempt,
    /// whose response was lost, has written it.
    async fn confirm_existence(&self, name: &str, location: &Path) -> Result<(), Failure> {
        let found = self.store.head(location).await.map(FoundObject::of);
        match existence::confirm(name, &found) {
            Ok(()) => Ok(()),
            Err(failure) => match &found {
                Ok(_) => Err(failure),
                Err(error) => Err(store::explained(&self.plan, error, failure).await),
            },
        }
    }
}
